from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.layers.form import Form


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
    ],
)
def test_parts_that_make_no_form_are_refused(parts: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Form(**{name: torch.zeros(shape) for name, shape in parts.items()})
