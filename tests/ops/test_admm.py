"""ADMM pruning: exact counts, the best support by trying all, Kronecker systems, and pruning by magnitude."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops.admm import admm_prune
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit, refit_exact


def matrix(m: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(n: int, seed: int = 0) -> Tensor:
    """Of inputs that are correlated and of different sizes."""
    mixed = matrix(3 * n, n, seed) @ (torch.eye(n) + 0.5 * matrix(n, n, seed + 1) / n**0.5).double()
    inputs = mixed * torch.logspace(0, 1, n, dtype=torch.float64)
    return inputs.T @ inputs / len(inputs)


def layer(out: int, width: int, seed: int = 0) -> tuple[Quadratic, Tensor]:
    weight = matrix(out, width, seed + 2)
    return Quadratic.around(weight, moment(width, seed)).damped(weight), weight


def gram(n: int, seed: int = 0) -> Tensor:
    left = matrix(2 * n, n, seed)
    return left.T @ left


@given(
    out=st.integers(1, 9),
    width=st.integers(1, 9),
    share=st.floats(0, 1),
    scope=st.sampled_from(["layer", "row"]),
    growing=st.integers(1, 4),
    coupled=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=100)
def test_exactly_as_many_values_are_left_as_asked_and_zeros_are_positive(
    out: int, width: int, share: float, scope: str, growing: int, coupled: bool, dtype: torch.dtype, seed: int
) -> None:
    problem, weight = layer(out, width, seed)
    problem = Quadratic(problem.moment.to(dtype), problem.cross.to(dtype), problem.energy)
    keep = round(share * out * width)
    coupling = gram(out, seed) if coupled else None
    values = admm_prune(problem, keep, weight, coupling, iterations=4, growing=growing, scope=scope)
    assert values.dtype == dtype
    assert int(torch.count_nonzero(values)) == keep
    assert not bool(torch.signbit(values[values == 0]).any())
    if scope == "row":
        rows = torch.count_nonzero(values, dim=1)
        assert int(rows.max() - rows.min()) <= 1


def test_the_error_is_near_that_of_the_best_of_all_supports() -> None:
    width, keep, ratios = 12, 6, []
    places = torch.tensor(list(combinations(range(width), keep)))
    supports = torch.zeros(len(places), width, dtype=torch.bool).scatter_(1, places, True)
    for seed in range(20):
        problem, weight = layer(1, width, seed)
        every = Quadratic(problem.moment, problem.cross.expand(supports.shape), problem.energy.expand(len(supports)))
        best = float(every.error(refit_exact(every, supports)).min())
        values = admm_prune(problem, keep, weight, iterations=40, growing=30)
        ratios.append(float(problem.error(refit_exact(problem, values != 0))) / best)
    assert min(ratios) >= 1 - 1e-9
    assert np.median(ratios) < 1.001
    assert np.mean(ratios) < 1.05


@pytest.mark.parametrize("share", [0.5, 0.2, 0.1])
def test_the_error_is_below_that_of_pruning_by_magnitude_or_by_activation_with_a_refit(share: float) -> None:
    problem, weight = layer(40, 60)
    keep = round(share * weight.numel())
    values = admm_prune(problem, keep, weight)
    for score in (weight.abs(), weight.abs() * problem.moment.diagonal().sqrt()):
        support = torch.zeros(weight.shape, dtype=torch.bool)
        support.view(-1)[score.flatten().topk(keep).indices] = True
        assert problem.relative_error(values) < 0.9 * problem.relative_error(refit_exact(problem, support))


def test_once_the_mask_is_final_it_approaches_the_least_squares_on_it() -> None:
    problem, weight = layer(10, 16)
    values = admm_prune(problem, 60, weight, iterations=600, growing=10)
    torch.testing.assert_close(values, refit_exact(problem, values != 0), rtol=1e-6, atol=1e-8)


def test_with_everything_kept_and_a_coupling_it_is_the_solve_of_the_kronecker_system() -> None:
    problem, weight = layer(5, 7)
    coupling = gram(5)
    values = admm_prune(problem, 35, weight, coupling, iterations=2000, growing=1)
    system = np.kron(coupling.numpy(), problem.moment.numpy())
    expected = scipy.linalg.solve(system, problem.cross.numpy().ravel()).reshape(5, 7)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_a_diagonal_coupling_is_a_scale_of_rows() -> None:
    problem, weight = layer(6, 8)
    sizes = torch.logspace(-1, 1, 6, dtype=torch.float64)[:, None]
    coupled = Quadratic(problem.moment, problem.cross * sizes, problem.energy)
    values = admm_prune(coupled, 20, weight / sizes, torch.diag(sizes[:, 0] ** 2))
    torch.testing.assert_close(values * sizes, admm_prune(problem, 20, weight))


def test_a_coupling_that_is_regarded_gives_a_lower_error_than_one_that_is_not() -> None:
    errors = []
    for seed in range(5):
        problem, left = layer(20, 30, seed)[0], matrix(20, 10, seed + 5) + 2 * matrix(20, 1, seed + 6)
        coupling = left.T @ left
        right = Quadratic(problem.moment, left.T @ problem.cross, problem.energy)
        start = torch.linalg.lstsq(left, problem.solution).solution
        regarding = admm_prune(right, 60, start, coupling)
        blind = admm_prune(Quadratic.around(start, right.moment), 60, start)
        errors.append(
            [
                problem.relative_error(left @ refit(right, values != 0, values, coupling, iterations=100))
                for values in (regarding, blind)
            ]
        )
    with_it, without = np.mean(errors, axis=0)
    assert with_it < 0.98 * without


def test_places_that_are_not_allowed_stay_zero_and_the_count_is_met_among_the_others() -> None:
    problem, weight = layer(8, 12)
    within = torch.rand(8, 12, generator=torch.Generator().manual_seed(1)) < 0.4
    allowed = int(within.sum())
    for keep in (10, allowed):
        values = admm_prune(problem, keep, weight, within=within)
        assert int(torch.count_nonzero(values)) == keep
        assert not bool((values[~within] != 0).any())
    with pytest.raises(ValueError, match=f"cannot keep {allowed + 1} of {allowed}"):
        admm_prune(problem, allowed + 1, weight, within=within)


def test_values_that_were_zero_at_the_start_may_come_back() -> None:
    problem, weight = layer(6, 10)
    start = torch.zeros_like(weight)
    assert int(torch.count_nonzero(admm_prune(problem, 30, start))) == 30


@pytest.mark.parametrize("scope", ["layer", "row"])
def test_a_pattern_leaves_n_of_every_m_and_less_error_than_the_activation_score_would(scope: str) -> None:
    problem, weight = layer(12, 32)
    values = admm_prune(problem, 12 * 16, weight, pattern=(2, 4), scope=scope)
    assert bool((torch.count_nonzero(values.view(12, 8, 4), dim=2) == 2).all())
    score = (weight.abs() * problem.moment.diagonal().sqrt()).view(12, 8, 4)
    support = torch.zeros(12, 8, 4, dtype=torch.bool).scatter_(2, score.topk(2, dim=2).indices, True).view(12, 32)
    assert problem.relative_error(values) < problem.relative_error(refit_exact(problem, support))


def test_a_scale_moves_the_budget_to_the_rows_that_count_more() -> None:
    problem, weight = layer(4, 20)
    scale = torch.tensor([[10.0], [1.0], [1.0], [1.0]])
    plain, scaled = (torch.count_nonzero(admm_prune(problem, 24, weight, scale=by), dim=1) for by in (None, scale))
    assert int(scaled.sum()) == 24
    assert int(scaled[0]) > int(plain[0])


def test_the_same_input_gives_the_same_bits() -> None:
    problem, weight = layer(7, 9)
    assert torch.equal(admm_prune(problem, 20, weight), admm_prune(problem, 20, weight))


def test_what_does_not_fit_is_refused() -> None:
    problem, weight = layer(3, 6)
    with pytest.raises(ValueError, match="cannot keep 19 of 18"):
        admm_prune(problem, 19, weight)
    with pytest.raises(ValueError, match=r"must be \(3, 6\)"):
        admm_prune(problem, 9, weight.T)
    with pytest.raises(ValueError, match="does not fit 3 rows"):
        admm_prune(problem, 9, weight, torch.eye(6))
    with pytest.raises(ValueError, match="unknown scope 'column'"):
        admm_prune(problem, 9, weight, scope="column")
    with pytest.raises(ValueError, match="growing over 15 of 10"):
        admm_prune(problem, 9, weight, iterations=10)
    with pytest.raises(ValueError, match="2:4 needs a width divisible by 4, not 6"):
        admm_prune(problem, 9, weight, pattern=(2, 4))
    with pytest.raises(ValueError, match="1:2 keeps 9 of these 18 values, not 8"):
        admm_prune(problem, 8, weight, pattern=(1, 2))
