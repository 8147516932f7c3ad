"""Problems of several groups against each group solved by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops.admm import admm_prune
from rcc.ops.grid import quantise, row_steps
from rcc.ops.groups import for_rows, times
from rcc.ops.obs import obs_prune
from rcc.ops.patterns import pattern_count
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import best_bias, refit, refit_exact, row_scales


def matrix(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grouped(groups: int, per: int, width: int, seed: int = 0) -> tuple[Quadratic, Tensor]:
    """A problem of `groups` groups, whose minimum is not its weight, and a weight near it with some zeros."""
    inputs = matrix(groups, 4 * width, width, seed=seed) @ matrix(groups, width, width, seed=seed + 1)
    weight = matrix(groups * per, width, seed=seed + 2)
    problem = Quadratic.around(weight, inputs.mT @ inputs / (4 * width)).damped(matrix(*weight.shape, seed=seed + 3))
    return problem, weight.masked_fill(weight.abs() < 0.3, 0.0)


def alone(problem: Quadratic) -> list[Quadratic]:
    """The problem of each group, without groups."""
    groups = len(problem.moment)
    parts = problem.cross.chunk(groups), problem.energy.chunk(groups)
    return [Quadratic(moment, *part) for moment, *part in zip(problem.moment, *parts, strict=True)]


SHAPES = {
    "groups": st.integers(1, 5),
    "per": st.integers(1, 4),
    "width": st.integers(1, 20),
    "seed": st.integers(0, 99),
}


def pairwise(solve: Callable[[Quadratic, Tensor], Tensor], problem: Quadratic, weight: Tensor) -> None:
    """What `solve` makes of the groups together is what it makes of each."""
    parts = zip(alone(problem), weight.chunk(len(problem.moment)), strict=True)
    torch.testing.assert_close(solve(problem, weight), torch.cat([solve(*part) for part in parts]))


@given(**SHAPES)
@settings(deadline=None, max_examples=30)
def test_the_objective_of_groups_is_that_of_each(groups: int, per: int, width: int, seed: int) -> None:
    problem, weight = grouped(groups, per, width, seed)
    pairwise(lambda one, part: one.error(part), problem, weight)
    pairwise(lambda one, part: one.damped(part, 0.3).error(2 * part), problem, weight)
    pairwise(lambda one, part: one.solution, problem, weight)
    pairwise(row_scales, problem, weight)
    assert times(weight, problem.moment).shape == weight.shape


@given(**SHAPES)
@settings(deadline=None, max_examples=30)
def test_least_squares_and_rounding_of_groups_are_those_of_each(groups: int, per: int, width: int, seed: int) -> None:
    problem, weight = grouped(groups, per, width, seed)
    pairwise(lambda one, part: refit(one, part != 0, part, iterations=100, tolerance=1e-12), problem, weight)
    pairwise(lambda one, part: refit_exact(one, part != 0), problem, weight)
    for levels in (1, 7):
        pairwise(lambda one, part, n=levels: quantise(one, part, row_steps(part, n).double(), n), problem, weight)


@pytest.mark.parametrize("pattern", [None, (1, 3)])
def test_pruning_one_group_is_pruning_without_groups(pattern: tuple[int, int] | None) -> None:
    problem, weight = grouped(1, 4, 9)
    keep = 18 if pattern is None else pattern_count((4, 9), *pattern)
    pairwise(lambda one, part: obs_prune(one, keep, 3, pattern=pattern), problem, weight)
    pairwise(lambda one, part: admm_prune(one, keep, part, pattern=pattern), problem, weight)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_pruned_groups_keep_an_exact_count_and_err_less_than_by_magnitude(share: float) -> None:
    problem, _ = grouped(40, 1, 9)
    best, keep = problem.solution, round((1 - share) * 360)
    kept = best.abs().flatten().kthvalue(360 - keep).values
    least = float(problem.error(best).sum())
    worst = float(problem.error(best.where(best.abs() > kept, 0.0)).sum()) - least
    for found in (obs_prune(problem, keep), admm_prune(problem, keep, best)):
        assert int(torch.count_nonzero(found)) == keep
        fitted = refit(problem, found != 0, found)
        assert float(problem.error(fitted).sum()) - least < 0.8 * worst


def test_a_group_whose_inputs_never_fired_loses_its_values_first() -> None:
    problem, _ = grouped(4, 2, 6)
    moment, cross = problem.moment.clone(), problem.cross.clone()
    moment[2], cross[4:6] = 0, 0
    found = obs_prune(Quadratic(moment, cross, problem.energy), 36)
    assert not bool(found[4:6].any())
    assert int(torch.count_nonzero(found)) == 36


def test_the_mean_output_of_groups_is_that_of_each_on_its_own_inputs() -> None:
    weight, mean = matrix(6, 4), matrix(3, 4, seed=1)
    found = best_bias(torch.zeros(6, dtype=torch.float64), mean, weight)
    torch.testing.assert_close(found, -(weight * for_rows(mean, 6)).sum(1))


def test_thousands_of_groups_are_rounded_together() -> None:
    """A depthwise layer of 4,096 channels: one call for all, near a step for each column, not for each channel."""
    problem, weight = grouped(4096, 1, 9)
    steps = row_steps(weight, 7).double()
    found = quantise(problem, weight, steps, 7)
    nearest = (weight / steps[:, None]).round() * steps[:, None]
    assert float(problem.error(found).sum()) < float(problem.error(nearest).sum())
