from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.layers.form import Form
from rcc.layers.grid import from_grid, to_grid


def test_a_fresh_form_is_the_weight_itself() -> None:
    weight = torch.randn(3, 5)
    form = Form(sparse=weight)
    assert form.dense() is weight
    assert (form.shape, form.rank, form.stored) == ((3, 5), None, 15)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.booleans(), st.booleans())
def test_dense_is_the_formula_in_double_precision(
    outputs: int, inputs: int, rank: int, sparse: bool, scaled: bool
) -> None:
    draw = np.random.default_rng(outputs * 100 + inputs * 10 + rank)
    S, U, V = draw.normal(size=(outputs, inputs)), draw.normal(size=(outputs, rank)), draw.normal(size=(rank, inputs))
    a = draw.normal(size=outputs)
    form = Form(
        sparse=torch.tensor(S) if sparse else None,
        left=torch.tensor(U),
        right=torch.tensor(V),
        scale=torch.tensor(a) if scaled else None,
    )
    expected = (np.diag(a) if scaled else np.eye(outputs)) @ ((S if sparse else 0) + U @ V)
    np.testing.assert_allclose(form.dense().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(form.folded().dense().numpy(), expected, atol=1e-12)
    assert form.folded().scale is None
    assert form.stored == (outputs * inputs if sparse else 0) + rank * (outputs + inputs)


def test_dense_does_not_change_the_stored_parts() -> None:
    form = Form(sparse=torch.ones(2, 2), left=torch.ones(2, 1), right=torch.ones(1, 2), scale=torch.full((2,), 3.0))
    assert form.dense().tolist() == [[6.0, 6.0], [6.0, 6.0]]
    assert form.sparse is not None
    assert form.sparse.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_folding_a_negative_scale_leaves_positive_zeros() -> None:
    form = Form(
        sparse=torch.tensor([[0.0, 2.0]]),
        left=torch.tensor([[0.0]]),
        right=torch.tensor([[1.0, 1.0]]),
        scale=torch.tensor([-2.0]),
    ).folded()
    assert form.sparse is not None
    assert form.left is not None
    assert form.sparse.tolist() == [[0.0, -4.0]]
    assert not bool(torch.signbit(form.sparse[0, 0]))
    assert not bool(torch.signbit(form.left[0, 0]))


def test_counts_are_of_all_matrices() -> None:
    form = Form(
        sparse=torch.tensor([[0.0, 1.0], [0.0, 0.0]]), left=torch.tensor([[1.0], [0.0]]), right=torch.ones(1, 2)
    )
    assert [name for name, _ in form.matrices()] == ["sparse", "left", "right"]
    assert (form.stored, form.nonzeros, form.rank) == (8, 4, 1)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({}, "needs a sparse part"),
        ({"left": (2, 1)}, "needs both"),
        ({"left": (2, 1), "right": (2, 3)}, "disagree on the rank"),
        ({"sparse": (2, 2), "left": (2, 1), "right": (1, 3)}, "differ in shape"),
        ({"sparse": (2, 3), "scale": (3,)}, "does not fit 2 outputs"),
        ({"sparse": (2, 3), "bias": (1,)}, "does not fit 2 outputs"),
        ({"sparse": (2, 3), "sparse_step": (3,)}, r"sparse_step \(3,\) needs .* the matrix is \(2, 3\)"),
        ({"left": (4, 2), "right": (2, 3), "right_step": (4,)}, r"right_step \(4,\) needs .* the matrix is \(2, 3\)"),
        ({"sparse": (2, 3), "left_step": (2,)}, r"left_step \(2,\) needs .* there is none"),
    ],
)
def test_parts_that_make_no_form_are_refused(parts: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Form(**{name: torch.zeros(shape) for name, shape in parts.items()})


def quantised(scale: list[float] | None = None) -> Form:
    """Both parts on a grid of float16 steps, 3 outputs, 4 inputs, rank 2."""
    draw = torch.Generator().manual_seed(0)
    whole = {
        name: torch.randint(-127, 128, shape, generator=draw, dtype=torch.int8)
        for name, shape in (("sparse", (3, 4)), ("left", (3, 2)), ("right", (2, 4)))
    }
    whole["sparse"][1] = 0
    steps = {f"{name}_step": torch.rand(len(q), generator=draw).half().float() + 0.5 for name, q in whole.items()}
    matrices = {name: from_grid(q, steps[f"{name}_step"]) for name, q in whole.items()}
    return Form(**matrices, **steps, scale=None if scale is None else torch.tensor(scale))


def test_folding_a_scale_keeps_matrices_on_their_grid() -> None:
    form = quantised([-2.0, 0.3, 0.0])
    folded = form.folded()
    assert folded.scale is None
    assert folded.quantised
    signs = torch.tensor([[-1], [1], [0]], dtype=torch.int8)
    for name in ("sparse", "left"):
        matrix, step, before = getattr(folded, name), getattr(folded, f"{name}_step"), getattr(form, f"{name}_step")
        whole = to_grid(getattr(form, name), before) * signs
        assert torch.equal(matrix, from_grid(whole, step))
        assert torch.equal(to_grid(matrix, step), whole)
        assert torch.equal(step, torch.stack([before[0] * 2.0, before[1] * 0.3, before[2]]))
        assert not bool(torch.signbit(matrix[matrix == 0]).any())
    assert folded.right is form.right
    assert folded.right_step is form.right_step
    torch.testing.assert_close(folded.dense(), form.dense(), rtol=1e-5, atol=1e-4)


def test_folding_refuses_a_matrix_that_left_its_grid() -> None:
    form = quantised([1.0, 1.0, 1.0])
    assert form.sparse is not None
    form.sparse[0, 0] += 0.01
    with pytest.raises(ValueError, match="1 of 12 values are not whole multiples"):
        form.folded()


def test_steps_that_fit_stay_and_those_that_do_not_are_let_go() -> None:
    form = quantised()
    assert form.without_stale_steps() is form
    assert form.sparse is not None
    moved = replace(form, sparse=form.sparse + 0.01)
    assert moved.without_stale_steps().sparse_step is None
    assert moved.without_stale_steps().left_step is form.left_step
