"""Least squares on a fixed support, against one scipy solve a row, a Kronecker solve with coupling, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops import refit as module
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import best_bias, refit, refit_exact, row_scales


def matrix(m: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def definite(n: int, seed: int, spread: float = 100.0) -> Tensor:
    basis, _ = torch.linalg.qr(matrix(n, n, seed))
    return (basis * torch.logspace(0, -float(np.log10(spread)), n, dtype=torch.float64)) @ basis.T


def objective(out: int, width: int, seed: int = 0) -> Quadratic:
    """One whose G is that of other outputs than any weight gives on these inputs."""
    return Quadratic(definite(width, seed), matrix(out, width, seed + 1), torch.full((out,), 100.0).double())


def chosen(out: int, width: int, share: float, seed: int = 0) -> Tensor:
    return torch.rand(out, width, generator=torch.Generator().manual_seed(seed)) < share


def by_scipy(problem: Quadratic, support: Tensor) -> np.ndarray:
    moment, cross = problem.moment.double().numpy(), problem.cross.double().numpy()
    values = np.zeros(support.shape)
    for row, places in enumerate(support.numpy()):
        columns = np.flatnonzero(places)
        if columns.size:
            values[row, columns] = scipy.linalg.solve(moment[np.ix_(columns, columns)], cross[row, columns])
    return values


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("batch", [1, 200, 1 << 22])
def test_the_exact_refit_is_scipys_solve_of_each_row(share: float, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    problem, support = objective(9, 14), chosen(9, 14, share)
    values = refit_exact(problem, support)
    np.testing.assert_allclose(values.numpy(), by_scipy(problem, support), rtol=1e-9, atol=1e-10)
    assert not bool((values[~support] != 0).any())


@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_conjugate_gradients_reach_scipys_solve_of_each_row(share: float) -> None:
    problem, support = objective(9, 14), chosen(9, 14, share)
    values = refit(problem, support, iterations=60, tolerance=1e-12)
    np.testing.assert_allclose(values.numpy(), by_scipy(problem, support), rtol=1e-8, atol=1e-8)


def test_fifteen_iterations_in_float32_come_near_the_solve_from_a_start_that_is_near() -> None:
    weight, support = matrix(20, 64, 3), chosen(20, 64, 0.3)
    problem = Quadratic.around(weight.float(), definite(64, 0).float()).damped(weight.float())
    values = refit(problem, support, start=weight.float())
    assert values.dtype == torch.float32
    best = float(problem.error(refit_exact(problem, support)).sum())
    assert float(problem.error(values).sum()) == pytest.approx(best, rel=1e-2)


def test_with_a_coupling_it_is_the_solve_of_the_kronecker_system() -> None:
    out, width = 5, 8
    problem, coupling, support = objective(out, width), definite(out, 7), chosen(out, width, 0.5)
    values = refit(problem, support, coupling=coupling, iterations=200, tolerance=1e-12)
    places = np.flatnonzero(support.numpy().ravel())
    system = np.kron(coupling.numpy(), problem.moment.numpy())[np.ix_(places, places)]
    expected = np.zeros(out * width)
    expected[places] = scipy.linalg.solve(system, problem.cross.numpy().ravel()[places])
    np.testing.assert_allclose(values.numpy().ravel(), expected, rtol=1e-8, atol=1e-8)


def test_the_identity_as_coupling_changes_nothing_but_the_stopping() -> None:
    problem, support = objective(6, 10), chosen(6, 10, 0.5)
    coupled = refit(problem, support, coupling=torch.eye(6).double(), iterations=100, tolerance=1e-12)
    np.testing.assert_allclose(coupled.numpy(), by_scipy(problem, support), rtol=1e-8, atol=1e-8)


@given(seed=st.integers(0, 10_000), iterations=st.integers(0, 12), coupled=st.booleans())
@settings(deadline=None, max_examples=40)
def test_more_iterations_never_raise_the_objective(seed: int, iterations: int, coupled: bool) -> None:
    problem, support, start = objective(4, 9, seed), chosen(4, 9, 0.6, seed), matrix(4, 9, seed + 5)
    coupling = definite(4, seed + 9) if coupled else None

    def value(weight: Tensor) -> float:
        rows = torch.eye(4).double() if coupling is None else coupling
        return float((rows @ weight @ problem.moment * weight - 2 * weight * problem.cross).sum())

    steps = [refit(problem, support, start, coupling, count) for count in (0, iterations, iterations + 1)]
    assert torch.equal(steps[0], start.masked_fill(~support, 0.0))
    assert value(steps[1]) <= value(steps[0]) + 1e-9
    assert value(steps[2]) <= value(steps[1]) + 1e-9
    assert all(not bool((step[~support] != 0).any()) for step in steps)


def test_a_row_that_has_converged_is_left_alone_while_others_go_on() -> None:
    problem, support = objective(2, 12), torch.ones(2, 12, dtype=torch.bool)
    start = problem.solution.clone()
    start[1] = 0
    values = refit(problem, support, start, iterations=30, tolerance=1e-6)
    assert torch.equal(values[0], start[0])
    assert not torch.equal(values[1], start[1])


def test_zeros_are_positive_whatever_the_signs_that_went_in() -> None:
    problem, support = objective(3, 6), chosen(3, 6, 0.5)
    start = torch.full((3, 6), -0.0).double()
    for values in (
        refit(problem, support, start, iterations=0),
        refit(problem, support),
        refit_exact(problem, support),
    ):
        assert not bool(torch.signbit(values[values == 0]).any())


def test_inputs_that_depend_on_one_another_are_refused_with_their_row() -> None:
    moment = torch.ones(3, 3).double() + torch.diag(torch.tensor([0.0, 0.0, 1.0]).double())
    problem = Quadratic(moment, torch.ones(2, 3).double(), torch.ones(2).double())
    support = torch.tensor([[True, False, True], [True, True, False]])
    with pytest.raises(ValueError, match=r"linearly dependent \(row 1, 2 values\)"):
        refit_exact(problem, support)
    assert torch.isfinite(refit(problem, support)).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    problem = objective(3, 6)
    with pytest.raises(ValueError, match=r"must be \(3, 6\)"):
        refit(problem, torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"must be \(3, 6\)"):
        refit_exact(problem, torch.ones(2, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="does not fit 3 rows"):
        refit(problem, torch.ones(3, 6, dtype=torch.bool), coupling=torch.eye(2))


def test_row_scales_are_the_least_squares_of_the_outputs_and_one_for_a_silent_row() -> None:
    inputs, weight = matrix(50, 6, 1), matrix(3, 6, 2)
    targets = inputs @ matrix(3, 6, 4).T
    weight[2] = 0
    problem = Quadratic(inputs.T @ inputs / 50, targets.T @ inputs / 50, targets.square().mean(0))
    outputs = inputs @ weight.T
    expected = [np.linalg.lstsq(outputs[:, [i]].numpy(), targets[:, i].numpy())[0][0] for i in range(2)]
    np.testing.assert_allclose(row_scales(problem, weight).numpy(), [*expected, 1.0], rtol=1e-10)


def test_with_the_best_bias_the_means_agree() -> None:
    inputs, weight, targets = matrix(40, 5, 1) + 2, matrix(3, 5, 2), matrix(40, 3, 3) - 1
    bias = best_bias(targets.mean(0), inputs.mean(0), weight)
    torch.testing.assert_close((inputs @ weight.T + bias).mean(0), targets.mean(0))
