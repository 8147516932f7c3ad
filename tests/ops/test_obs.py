"""One-sweep pruning against the paper's steps written out with explicit inverses, and exact counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops.obs import obs_prune
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit_exact


def matrix(m: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(out: int, width: int, seed: int = 0) -> tuple[Quadratic, Tensor]:
    inputs = matrix(3 * width, 4, seed) @ matrix(4, width, seed + 1) + 0.5 * matrix(3 * width, width, seed + 2)
    weight = matrix(out, width, seed + 3)
    return Quadratic.around(weight, inputs.T @ inputs / len(inputs)).damped(weight), weight


def written_out(problem: Quadratic, counts: list[int], block: int, order: np.ndarray, group: int = 0) -> np.ndarray:
    """SparseGPT, algorithm 1: the inverse of what is left of H at each column, each value's own update."""
    moment = problem.moment.double().numpy()[np.ix_(order, order)]
    weight = np.linalg.solve(moment, problem.cross.double().numpy()[:, order].T).T
    out, width = weight.shape
    left = [np.linalg.inv(moment[column:, column:]) for column in range(width)]
    for number, first in enumerate(range(0, width, block)):
        last = min(width, first + block)
        costs = np.stack([weight[:, column] ** 2 / left[column][0, 0] for column in range(first, last)], axis=1)
        gone = np.zeros(costs.shape, dtype=bool)
        if group:
            np.put_along_axis(gone, np.argsort(costs, axis=1)[:, : counts[number]], True, axis=1)
        else:
            gone.ravel()[np.argsort(costs, axis=None)[: counts[number]]] = True
        for column in range(first, last):
            for row in range(out):
                if gone[row, column - first]:
                    factor = weight[row, column] / left[column][0, 0]
                    weight[row, column:] -= factor * left[column][0]
                    weight[row, column] = 0
    result = np.empty_like(weight)
    result[:, order] = weight
    return result


def by_size(problem: Quadratic) -> np.ndarray:
    return np.argsort(-problem.moment.diagonal().numpy(), kind="stable")


@pytest.mark.parametrize(("width", "block"), [(12, 12), (40, 8), (37, 16), (40, 40)])
def test_it_is_the_papers_algorithm_with_columns_by_falling_size(width: int, block: int) -> None:
    problem, _ = layer(6, width)
    drop = round(0.6 * 6 * width)
    edges = [min(width, first) * drop // width for first in range(0, width + block, block)]
    expected = written_out(problem, list(np.diff(edges)), block, by_size(problem))
    values = obs_prune(problem, 6 * width - drop, block)
    assert np.array_equal(values.numpy() != 0, expected != 0)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-8, atol=1e-10)


def test_with_a_pattern_it_is_the_papers_algorithm_with_groups_by_falling_size() -> None:
    problem, _ = layer(6, 24)
    groups = np.argsort(-problem.moment.diagonal().view(-1, 4).mean(1).numpy(), kind="stable")
    order = (groups[:, None] * 4 + np.arange(4)).ravel()
    expected = written_out(problem, [2] * 6, 4, order, group=4)
    values = obs_prune(problem, 72, pattern=(2, 4))
    assert bool((torch.count_nonzero(values.view(6, 6, 4), dim=2) == 2).all())
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-8, atol=1e-10)


@given(
    out=st.integers(1, 6),
    width=st.integers(1, 40),
    block=st.integers(1, 50),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_exactly_as_many_values_are_left_as_asked(
    out: int, width: int, block: int, share: float, dtype: torch.dtype, seed: int
) -> None:
    problem, _ = layer(out, width, seed)
    problem = Quadratic(problem.moment.to(dtype), problem.cross.to(dtype), problem.energy)
    keep = round(share * out * width)
    values = obs_prune(problem, keep, block)
    assert values.dtype == dtype
    assert int(torch.count_nonzero(values)) == keep
    assert not bool(torch.signbit(values[values == 0]).any())


def test_with_everything_kept_it_is_the_dense_minimum() -> None:
    problem, weight = layer(5, 20)
    torch.testing.assert_close(obs_prune(problem, 100), problem.solution)
    torch.testing.assert_close(obs_prune(problem, 100), weight)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_error_is_below_that_of_dropping_the_same_values_and_above_that_of_the_least_squares(share: float) -> None:
    problem, weight = layer(30, 64)
    values = obs_prune(problem, round(share * weight.numel()))
    error = problem.relative_error(values)
    assert problem.relative_error(refit_exact(problem, values != 0)) < error
    assert error < 0.5 * problem.relative_error(weight.masked_fill(values == 0, 0.0))


def test_inputs_that_never_fired_go_first_and_the_others_share_what_is_left() -> None:
    problem, _ = layer(4, 16)
    moment, cross = problem.moment.clone(), problem.cross.clone()
    for dead in (3, 4, 9):
        moment[dead], moment[:, dead], cross[:, dead] = 0, 0, 0
    silent = Quadratic(moment, cross, problem.energy)
    values = obs_prune(silent, 40, block=4)
    assert int(torch.count_nonzero(values)) == 40
    assert not bool((values[:, [3, 4, 9]] != 0).any())
    with pytest.raises(ValueError, match="cannot keep 53 of the 52 values on inputs that fired"):
        obs_prune(silent, 53)


def test_inputs_that_depend_on_one_another_are_refused() -> None:
    problem = Quadratic(torch.ones(3, 3).double(), torch.ones(2, 3).double(), torch.ones(2).double())
    with pytest.raises(torch.linalg.LinAlgError):
        obs_prune(problem, 3)


def test_what_does_not_fit_is_refused() -> None:
    problem, _ = layer(2, 6)
    with pytest.raises(ValueError, match="cannot keep 13 of the 12"):
        obs_prune(problem, 13)
    with pytest.raises(ValueError, match="2:4 needs a width divisible by 4, not 6"):
        obs_prune(problem, 6, pattern=(2, 4))
    with pytest.raises(ValueError, match="1:3 keeps 4 of these 12 values, not 6"):
        obs_prune(problem, 6, pattern=(1, 3))
    with pytest.raises(ValueError, match="a block of 0 columns"):
        obs_prune(problem, 6, block=0)
