"""Round values to whole multiples of a step a row, plainly or with error feedback to the other columns.

Shapes: weights (rows, columns), steps (rows,). Whole numbers run from −levels to levels: 127 for int8, 7 for four bits.
A step in float16 or bfloat16 times such a number is exact in float32. Zeros are +0.0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.groups import by_group, diagonal, permuted
from rcc.ops.quadratic import Quadratic
from rcc.ops.rate import Rate
from rcc.ops.sweep import Decide, descending, sweep, upper_factor

LEVELS = 127
SHRINK = tuple(1 - 0.05 * index for index in range(15))
"""Shares of the largest magnitude that 'mse' tries as the largest level."""
CLIPS = ("absmax", "mse")
_KEYS = {2: torch.int16, 4: torch.int32}


def row_steps(
    weight: Tensor,
    levels: int = LEVELS,
    dtype: torch.dtype = torch.float16,
    clip: str = "absmax",
    importance: Tensor | None = None,
) -> Tensor:
    """The step of each row of `weight`, in `dtype`, above zero; 1 for a row of zeros.

    Args:
        levels: the largest whole number, 1 to 127.
        dtype: float16, bfloat16 or float32. Steps are rounded up to it, so that the largest magnitude is not cut.
            float16 is coarse below 6e-5, where it has steps of 6e-8 left; bfloat16 is not.
        clip: 'absmax' lets the largest magnitude be the largest level; 'mse' takes, of a few shares of it, the one
            with the least squared error of plain rounding, which pays at four bits and fewer.
        importance: (columns,) or (rows, columns), by which 'mse' weights squared errors: the diagonal of H.

    Raises:
        ValueError: levels out of range, an unknown clip, a weight that is not finite, a step beyond `dtype`.
    """
    _check_levels(levels)
    if clip not in CLIPS:
        raise ValueError(f"unknown clip '{clip}'; available: {', '.join(CLIPS)}")
    largest = weight.abs().amax(1).double()
    if not bool(torch.isfinite(largest).all()):
        raise ValueError("a weight is NaN or infinite")
    # A row of zeros gets the step 1.
    largest = torch.where(largest > 0, largest, float(levels))
    steps = _rounded_up(largest / levels, dtype)
    if clip == "absmax":
        return steps
    least = torch.full_like(largest, torch.inf)
    for factor in SHRINK:
        tried = _rounded_up(largest * factor / levels, dtype)
        error = (weight - round_to_grid(weight, tried, levels)).float().square_()
        if importance is not None:
            error *= importance.to(error)
        total = error.sum(1, dtype=torch.float64)
        steps = torch.where(total < least, tried, steps)
        least = torch.minimum(total, least)
    return steps


def round_to_grid(weight: Tensor, step: Tensor, levels: int = LEVELS, rate: Rate | None = None) -> Tensor:
    """The nearest step · q to each value, q whole and at most `levels` in magnitude; in the dtype of `weight`.

    Args:
        rate: what numbers cost to code, which errors are then weighed against, zeros kept. Its levels are taken.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    rows = step.to(wide)[:, None]
    scaled = weight.to(wide) / rows
    whole = scaled.round_().clamp_(-levels, levels) if rate is None else rate.round(scaled)
    rounded = whole.mul_(rows).to(weight.dtype)
    return rounded.masked_fill_((rounded == 0) | (weight == 0), 0.0)


def quantise(
    problem: Quadratic,
    weight: Tensor,
    steps: Tensor,
    levels: int = LEVELS,
    passes: int = 1,
    rate: Rate | None = None,
) -> Tensor:
    """`weight` (out, in) on the grid of `steps` (out,), each column's rounding error made up for by the others.

    First as GPTQ (Frantar et al. 2022) around `weight`, which should be the minimum on the values that are not zero;
    columns by falling H_jj. Then `passes` of cyclic coordinate descent on the objective over the grid, none of which
    raises it. Zeros of `weight` stay zero, which GPTQ alone does not allow for: its errors flow to zeros too, where
    they are lost, and coordinate descent takes them up again.

    Args:
        problem: H positive definite, and G. Where `weight` is the right factor of U V, `Quadratic.around(weight, H)`:
            how rows count together, UᵀU, drops out of GPTQ's update. Where it is of groups of rows, the columns of
            each are in an order of their own, and the j-th of all groups are decided at once.
        rate: what numbers cost to code, which errors are then weighed against: a column's error counts with the part of
            its H_jj that later columns do not tell, over the geometric mean of these parts. Its levels are taken.

    Returned in float32 or wider, as `problem` is.

    Raises:
        ValueError: levels out of range, shapes that do not fit.
    """
    levels = levels if rate is None else rate.levels
    _check_levels(levels)
    if weight.shape != problem.cross.shape or steps.shape != weight.shape[:1]:
        raise ValueError(
            f"weight {tuple(weight.shape)}, steps {tuple(steps.shape)} and objective {tuple(problem.cross.shape)} "
            "do not fit"
        )
    dtype = torch.promote_types(problem.moment.dtype, torch.float32)
    order = descending(problem.diagonal)
    places = order[..., None, :]  # of the columns of every row
    moment = permuted(problem.moment.to(dtype), order)
    cross, values, step = (by_group(each.to(dtype), problem.groups) for each in (problem.cross, weight, steps))
    cross, values = (torch.take_along_dim(each, places, -1) for each in (cross, values))
    zero = (values == 0).mT.contiguous()

    factor = upper_factor(moment)
    own = diagonal(factor).square()
    mean = own.log().mean(-1, keepdim=True).exp()

    def deciding(weights: Tensor) -> Decide:
        """How a column is rounded whose squared error counts with its entry of `weights` (…, in)."""
        prices = mean / weights

        def decide(column: int, value: Tensor) -> Tensor:
            scaled = value / step
            if rate is None:
                whole = scaled.round_().clamp_(-levels, levels)
            else:
                whole = rate.round(scaled, prices[..., column, None])
            return whole.mul_(step).masked_fill_(zero[..., column, :], 0.0)

        return decide

    decide = deciding(own)
    values = sweep(values, values, factor / diagonal(factor)[..., None, :], lambda first, block: decide)
    decide = deciding(diagonal(moment).clone())
    sizes = diagonal(moment)[..., None, :].clone()
    feedback = moment.div_(sizes)
    for _ in range(passes):
        # H_jj wanted_j = H_jj v_j + (G − V H)_j: where the derivative by column j alone is zero.
        wanted = values + cross / sizes - values @ feedback
        values = sweep(values, wanted, feedback, lambda first, block: decide)
    result = torch.empty_like(values).scatter_(-1, places.expand_as(values), values).reshape(weight.shape)
    return result.masked_fill_(result == 0, 0.0)


def _rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Positive float64 `values` in `dtype`, none below what it was."""
    rounded = values.to(dtype)
    # The bits of a positive number, read as an integer, are those of the next number less one.
    above = (rounded.view(_KEYS[dtype.itemsize]) + 1).view(dtype)
    rounded = torch.where(rounded.double() < values, above, rounded)
    if not bool(torch.isfinite(rounded).all()):
        raise ValueError(f"a step of {float(values.max()):.3g} is beyond {dtype}")
    return rounded


def _check_levels(levels: int) -> None:
    if not 1 <= levels <= LEVELS:
        raise ValueError(f"{levels} levels on each side of zero; int8 holds 1 to {LEVELS}")
