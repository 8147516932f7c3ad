"""Values on settled supports: each part against one lstsq of the whole part, and errors that never rise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.layers.form import Form
from rcc.ops.quadratic import Quadratic
from rcc.stages.alpha.repair_fits import moved_in_null_space, refitted, scaled

OUT, IN, RANK = 5, 7, 3


def drawn(m: int, n: int, seed: int, share: float = 1.0) -> Tensor:
    """A matrix with about `share` of its values other than zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(m, n, generator=generator, dtype=torch.float64)
    return torch.where(torch.rand(m, n, generator=generator) < share, values, 0.0)


def wanted(seed: int = 0) -> tuple[Quadratic, np.ndarray, np.ndarray]:
    """An objective with the rows (40, in) and outputs (40, out) it sums over."""
    x, y = drawn(40, IN, seed + 50), drawn(40, OUT, seed + 51)
    return Quadratic(x.T @ x / 40, y.T @ x / 40, y.square().mean(0)), x.numpy(), y.numpy()


def form_of(parts: str, share: float, seed: int = 0) -> Form:
    sparse = drawn(OUT, IN, seed + 1, share) if "S" in parts else None
    pair = "UV" in parts
    return Form(
        sparse=sparse,
        left=drawn(OUT, RANK, seed + 2, share) if pair else None,
        right=drawn(RANK, IN, seed + 3, share) if pair else None,
    )


def best_values(design: np.ndarray, target: np.ndarray, support: np.ndarray) -> np.ndarray:
    """vec-form lstsq: the values on `support` (flat) that make ‖target − design @ values‖ least."""
    values = np.zeros(support.size)
    places = np.flatnonzero(support)
    values[places] = np.linalg.lstsq(design[:, places], target, rcond=None)[0]
    return values.reshape(support.shape)


def by_lstsq(form: Form, x: np.ndarray, y: np.ndarray, rounds: int) -> tuple[np.ndarray | None, ...]:
    """S, U and V in turns, each by one lstsq over all its values at once."""
    sparse, left, right = (None if part is None else part.numpy() for part in (form.sparse, form.left, form.right))
    for _ in range(rounds):
        if sparse is not None:
            rest = y - (x @ right.T @ left.T if left is not None and right is not None else 0.0)
            design = np.kron(np.eye(OUT), x)  # outputs one after the other, each over all samples
            sparse = best_values(design, rest.T.reshape(-1), sparse != 0)
        if left is not None and right is not None:
            rest = (y - (x @ sparse.T if sparse is not None else 0.0)).T.reshape(-1)
            right = best_values(np.kron(left, x), rest, right != 0)
            left = best_values(np.kron(np.eye(OUT), x @ right.T), rest, left != 0)
    return sparse, left, right


@pytest.mark.parametrize("parts", ["S", "UV", "S+UV"])
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("rounds", [1, 3])
def test_each_part_is_one_least_squares_problem_in_its_turn(parts: str, share: float, rounds: int) -> None:
    problem, x, y = wanted()
    form = form_of(parts, share)
    found = refitted(form, problem, rounds)
    for part, expected in zip((found.sparse, found.left, found.right), by_lstsq(form, x, y, rounds), strict=True):
        assert (part is None) == (expected is None)
        if part is not None and expected is not None:
            np.testing.assert_allclose(part.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_more_rounds_leave_less_error() -> None:
    problem, *_ = wanted()
    form = form_of("S+UV", 0.5)
    errors = [float(problem.error(refitted(form, problem, rounds).dense()).sum()) for rounds in (1, 2, 5, 20)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] - 0.01


def test_a_row_of_v_that_is_all_zero_does_not_stop_the_rest() -> None:
    problem, x, y = wanted()
    form = form_of("UV", 1.0)
    assert form.right is not None
    form.right[1] = 0.0
    found = refitted(form, problem)
    assert found.left is not None
    assert found.right is not None
    seen = x @ found.right.numpy().T
    expected = np.linalg.lstsq(seen, y, rcond=None)[0].T
    np.testing.assert_allclose(found.left.numpy()[:, [0, 2]], expected[:, [0, 2]], rtol=1e-4, atol=1e-5)
    assert not bool(found.right[1].any())


def test_the_null_space_update_of_a_full_s_is_invisible_to_the_preserved_inputs() -> None:
    problem, *_ = wanted()
    form = form_of("S", 1.0)
    kept = drawn(IN, 2, 9) @ drawn(2, 30, 10)
    found = moved_in_null_space(form, problem, kept @ kept.T / 30, energy=0.0, damping=1e-9)
    assert form.sparse is not None
    assert found.sparse is not None
    torch.testing.assert_close(found.sparse @ kept, form.sparse @ kept, rtol=0, atol=1e-6)
    constrained = by_constraint(problem, form.sparse.numpy(), kept.numpy())
    np.testing.assert_allclose(found.sparse.numpy(), constrained, rtol=1e-5, atol=1e-5)


def by_constraint(problem: Quadratic, weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The minimum over W + D with D kept = 0, from the stationarity conditions with multipliers."""
    moment, cross = problem.moment.numpy(), problem.cross.numpy()
    span = np.linalg.svd(kept)[0][:, :2]
    system = np.block([[moment, span], [span.T, np.zeros((2, 2))]])
    right = np.concatenate([(cross - weight @ moment).T, np.zeros((2, OUT))])
    return weight + np.linalg.solve(system, right)[:IN].T


def test_the_null_space_update_of_a_pair_moves_u_alone_and_keeps_what_preserved_inputs_give() -> None:
    problem, *_ = wanted()
    form = form_of("UV", 1.0)
    kept = drawn(IN, 1, 9) @ drawn(1, 30, 10)
    found = moved_in_null_space(form, problem, kept @ kept.T / 30, energy=0.0, damping=0.01)
    assert found.right is form.right or torch.equal(found.right, form.right)  # type: ignore[arg-type]
    torch.testing.assert_close(found.dense() @ kept, form.dense() @ kept, rtol=0, atol=1e-6)
    assert float(problem.error(found.dense()).sum()) < float(problem.error(form.dense()).sum())


def test_after_masking_each_row_goes_as_far_as_is_best() -> None:
    problem, *_ = wanted()
    form = form_of("S", 0.5)
    found = moved_in_null_space(form, problem, torch.zeros(IN, IN, dtype=torch.float64), 0.0, 0.01)
    assert form.sparse is not None
    assert found.sparse is not None
    change = found.sparse - form.sparse
    assert not bool(change[form.sparse == 0].any())
    slope = ((found.sparse @ problem.moment - problem.cross) * change).sum(1)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-10)
    assert bool((change != 0).any())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    parts=st.sampled_from(["S", "UV", "S+UV"]),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    way=st.sampled_from(["scales", "least_squares", "null_space"]),
)
def test_no_error_rises_and_no_zero_is_filled(seed: int, parts: str, share: float, way: str) -> None:
    problem, *_ = wanted(seed)
    form = form_of(parts, share, seed)
    if way == "scales":
        found = scaled(form, problem)
    elif way == "least_squares":
        found = refitted(form, problem)
    else:
        assume(form.right is None or bool(form.right.any()))  # U sees nothing through a V of zeros: a named error
        preserved = drawn(IN, 4, seed + 7)
        found = moved_in_null_space(form, problem, preserved @ preserved.T, 0.1, 0.01)
    before, after = float(problem.error(form.dense()).sum()), float(problem.error(found.dense()).sum())
    assert after <= before * (1 + 1e-9)
    was = dict(form.matrices())
    assert {name: part.shape for name, part in found.matrices()} == {name: part.shape for name, part in was.items()}
    for name, part in found.matrices():
        assert not bool(part[was[name] == 0].any())
        assert not bool(torch.signbit(part[was[name] == 0]).any())


@pytest.mark.parametrize("way", ["refitted", "moved"])
def test_results_have_the_dtype_that_is_stored(way: str) -> None:
    problem, *_ = wanted()
    form = Form(sparse=drawn(OUT, IN, 1, 0.5).float())
    identity = torch.eye(IN, dtype=torch.float64)
    found = refitted(form, problem) if way == "refitted" else moved_in_null_space(form, problem, identity, 0.1, 0.01)
    assert found.sparse is not None
    assert found.sparse.dtype == torch.float32
