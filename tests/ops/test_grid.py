"""Steps, plain rounding, and rounding with feedback: the paper's steps written out, and the error of plain rounding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.layers.grid import to_grid
from rcc.ops.grid import quantise, round_to_grid, row_steps
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit_exact


def matrix(m: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(out: int, width: int, seed: int = 0) -> tuple[Quadratic, Tensor]:
    inputs = matrix(3 * width, 4, seed) @ matrix(4, width, seed + 1) + 0.5 * matrix(3 * width, width, seed + 2)
    weight = matrix(out, width, seed + 3)
    return Quadratic.around(weight, inputs.T @ inputs / len(inputs)).damped(weight), weight


@given(
    rows=st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    levels=st.integers(1, 127),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    clip=st.sampled_from(["absmax", "mse"]),
)
@settings(deadline=None, max_examples=150)
def test_rounding_is_exact_within_half_a_step_and_comes_back_from_whole_numbers(
    rows: list[list[float]], levels: int, dtype: torch.dtype, clip: str
) -> None:
    weight = torch.tensor(rows)
    steps = row_steps(weight, levels, dtype, clip)
    assert steps.dtype == dtype
    assert bool((steps > 0).all() & torch.isfinite(steps).all())
    rounded = round_to_grid(weight, steps, levels)
    assert not bool(torch.signbit(rounded[rounded == 0]).any())
    numbers = to_grid(rounded, steps)
    assert int(numbers.abs().max()) <= levels
    if dtype != torch.float32:
        assert torch.equal(numbers.double() * steps.double()[:, None], rounded.double())
    if clip == "absmax":
        error = (weight.double() - rounded.double()).abs()
        assert bool((error <= 0.5 * steps.double()[:, None] * (1 + 1e-5)).all())
        tight = weight.abs().amax(1).double() / levels
        normal = tight > torch.finfo(dtype).tiny
        assert bool((steps.double()[normal] <= tight[normal] * (1 + torch.finfo(dtype).eps)).all())


def test_a_row_of_zeros_has_the_step_one_and_stays_zero() -> None:
    weight = torch.tensor([[0.0, -0.0], [1.0, -2.0]])
    for clip in ("absmax", "mse"):
        steps = row_steps(weight, clip=clip)
        assert steps[0] == 1
        rounded = round_to_grid(weight, steps)
        assert torch.equal(rounded[0], torch.zeros(2))
        assert not bool(torch.signbit(rounded[0]).any())


def test_mse_steps_err_less_than_absmax_at_few_levels_and_by_importance_in_its_measure() -> None:
    weight = matrix(50, 300).float()
    importance = torch.logspace(-2, 2, 300)
    for levels in (1, 3, 7):
        absmax, plain, weighted = (
            round_to_grid(weight, row_steps(weight, levels, **options), levels)
            for options in ({}, {"clip": "mse"}, {"clip": "mse", "importance": importance})
        )
        error = (weight - plain).square().sum(1)
        assert bool((error <= (weight - absmax).square().sum(1) * (1 + 1e-6)).all())
        assert float(error.sum()) < 0.9 * float((weight - absmax).square().sum())
        assert bool((((weight - weighted).square() - (weight - plain).square()) @ importance <= 1e-4).all())


def test_a_half_precision_weight_keeps_its_dtype_on_the_grid() -> None:
    weight = matrix(4, 9).bfloat16()
    steps = row_steps(weight)
    rounded = round_to_grid(weight, steps)
    assert rounded.dtype == torch.bfloat16
    assert to_grid(rounded, steps).dtype == torch.int8


def written_out(weight: Tensor, moment: Tensor, steps: Tensor, levels: int) -> np.ndarray:
    """Optimal brain quantisation in one order for all rows (GPTQ, section 3), by explicit inverses."""
    values, left = weight.numpy().copy(), moment.numpy().copy()
    step, zero = steps.double().numpy(), weight.numpy() == 0
    inverse = np.linalg.inv(left)
    for column in np.argsort(-moment.diagonal().numpy(), kind="stable"):
        rounded = np.clip(np.round(values[:, column] / step), -levels, levels) * step
        rounded[zero[:, column]] = 0
        scaled = (values[:, column] - rounded) / inverse[column, column]
        others = inverse[column].copy()
        values -= np.outer(scaled, others)
        values[:, column] = rounded
        inverse -= np.outer(inverse[:, column], others) / inverse[column, column]
        inverse[column] = inverse[:, column] = 0
    return values


@pytest.mark.parametrize("levels", [127, 7])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_without_coordinate_descent_it_is_the_papers_algorithm_with_columns_by_falling_size(
    levels: int, share: float
) -> None:
    problem, weight = layer(6, 50)
    weight = weight * (torch.rand(6, 50, generator=torch.Generator().manual_seed(1)) < share)
    steps = row_steps(weight, levels)
    values = quantise(problem, weight, steps, levels, passes=0)
    np.testing.assert_allclose(values.numpy(), written_out(weight, problem.moment, steps, levels), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [127, 7, 1])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.15])
def test_the_error_is_never_above_that_of_plain_rounding_on_correlated_inputs(levels: int, share: float) -> None:
    for seed in range(10):
        problem, weight = layer(12, 64, seed)
        support = torch.rand(12, 64, generator=torch.Generator().manual_seed(seed)) < share
        weight = refit_exact(problem, support)
        steps = row_steps(weight, levels, clip="mse")
        values = quantise(problem, weight, steps, levels)
        assert not bool((values[~support] != 0).any())
        assert int(to_grid(values, steps).abs().max()) <= levels
        least = float(problem.error(weight).sum())
        plain = float(problem.error(round_to_grid(weight, steps, levels)).sum()) - least
        with_feedback = float(problem.error(values).sum()) - least
        assert with_feedback < (0.5 if share == 1 else 1) * plain


@given(seed=st.integers(0, 1000), levels=st.sampled_from([1, 7, 127]), share=st.sampled_from([1.0, 0.5, 0.2]))
@settings(deadline=None, max_examples=40)
def test_coordinate_descent_never_raises_the_error(seed: int, levels: int, share: float) -> None:
    problem, weight = layer(5, 20, seed)
    weight = weight * (torch.rand(5, 20, generator=torch.Generator().manual_seed(seed)) < share)
    steps = row_steps(weight, levels)
    errors = [float(problem.error(quantise(problem, weight, steps, levels, count)).sum()) for count in range(4)]
    assert all(after <= before + 1e-9 * abs(before) for before, after in pairwise(errors))


def test_coordinate_descent_ends_where_no_single_value_can_move_to_lower_the_error() -> None:
    problem, weight = layer(3, 12)
    steps = row_steps(weight, 3)
    values = quantise(problem, weight, steps, 3, passes=20)
    least = float(problem.error(values).sum())
    for row in range(3):
        for column in range(12):
            for number in range(-3, 4):
                moved = values.clone()
                moved[row, column] = number * float(steps[row])
                assert float(problem.error(moved).sum()) >= least - 1e-9


def test_float32_is_computed_in_float32_and_lies_on_the_grid() -> None:
    problem, weight = layer(5, 20)
    single = Quadratic(problem.moment.float(), problem.cross.float(), problem.energy)
    steps = row_steps(weight.float())
    values = quantise(single, weight.float(), steps)
    assert values.dtype == torch.float32
    assert torch.equal(round_to_grid(values, steps), values)


def test_what_does_not_fit_is_refused() -> None:
    problem, weight = layer(2, 6)
    with pytest.raises(ValueError, match="int8 holds 1 to 127"):
        row_steps(weight, 128)
    with pytest.raises(ValueError, match="unknown clip 'max'"):
        row_steps(weight, clip="max")
    with pytest.raises(ValueError, match="NaN or infinite"):
        row_steps(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match=r"a step of 7\.87e\+06 is beyond torch.float16"):
        row_steps(torch.tensor([[1e9]]))
    with pytest.raises(ValueError, match="do not fit"):
        quantise(problem, weight, torch.ones(3))
