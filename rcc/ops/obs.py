"""Prune to an exact count in one sweep over the columns, the later ones compensating each error (SparseGPT).

SparseGPT (Frantar & Alistarh 2023), after the optimal brain surgeon (Hassibi & Stork 1992): a value costs
w² / [H⁻¹]_jj, H⁻¹ taken over the inputs still to come, and its block of columns gives up what costs least.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.groups import by_group, diagonal, permuted
from rcc.ops.patterns import pattern_count, pattern_mask
from rcc.ops.quadratic import Quadratic
from rcc.ops.row_select import share_among_rows
from rcc.ops.select import select_smallest
from rcc.ops.sweep import Decide, descending, sweep, upper_factor

BLOCK = 16
"""Columns that choose together what goes. The paper takes 128; fewer choose later, knowing more of the errors made."""


def obs_prune(
    problem: Quadratic,
    keep: int,
    block: int = BLOCK,
    pattern: tuple[int, int] | None = None,
    solution: Tensor | None = None,
) -> Tensor:
    """V (out, in) with `keep` values other than zero, near the dense minimum W = G H⁻¹ in the metric of the inputs.

    Columns go by falling H_jj, and every block of them keeps the same share of its values, to within one. Of a grouped
    convolution a block is of all groups together.

    Args:
        problem: H, and G. An input that never fired (H_jj = 0) goes first, whatever the share of its block.
        keep: how many values stay, at most those on inputs that fired.
        block: columns whose values are compared with one another; of groups at most a third of all.
        pattern: (n, m) keeps n of every m consecutive columns, which then are the blocks; `keep` must be what that
            leaves.
        solution: G H⁻¹ where it is known, as it is of `Quadratic.around`: the weight; else it is solved for.

    Returned in float32 or wider, as `problem` is, with +0.0 where a value is gone. `refit` on what is left lowers the
    error by more than half at high sparsity: a column decided early is not told what later ones give up.

    Raises:
        ValueError: a `keep` out of range or against the pattern, or a block of no column.
        torch.linalg.LinAlgError: H is not positive definite on the inputs that fired; damp it.
    """
    out, width = problem.cross.shape
    dtype = torch.promote_types(problem.moment.dtype, torch.float32)
    dead = problem.diagonal <= 0
    groups, rows = problem.groups, out // (problem.groups or 1)
    problem = _with_all_inputs(problem, dead, dtype)
    if pattern is not None:
        block = pattern[1]
        most = pattern_count((out, width), *pattern)
        if keep != most:
            raise ValueError(f"{pattern[0]}:{pattern[1]} keeps {most} of these {out * width} values, not {keep}")
    most = out * width - rows * int(dead.sum())
    if pattern is None and not 0 <= keep <= most:
        raise ValueError(f"cannot keep {keep} of the {most} values on inputs that fired")
    if block < 1:
        raise ValueError(f"a block of {block} columns")
    if groups is not None and pattern is None:
        block = min(block, -(-width // 3))  # chosen all at once, none would know of another's error

    order = descending(problem.diagonal, 1 if pattern is None else pattern[1])
    places = order[..., None, :]  # of the columns of every row
    factor = upper_factor(permuted(problem.moment, order))
    pivots = diagonal(factor).clone()
    blocks = dead.take_along_dim(order, -1).split(block, -1)
    zeros = torch.stack([part.sum() for part in blocks]) * rows
    sizes = torch.tensor([part.shape[-1] * out for part in blocks], device=zeros.device)
    counts = share_among_rows(sizes, zeros, out * width - keep).tolist()

    if solution is None:
        # With H = M Mᵀ at hand G H⁻¹ = (G M⁻ᵀ) M⁻¹ takes two triangular solves, and no other factor.
        cross = by_group(problem.cross, groups).take_along_dim(places, -1)
        halfway = torch.linalg.solve_triangular(factor.mT, cross, upper=False, left=False)
        start = torch.linalg.solve_triangular(factor, halfway, upper=True, left=False)
    else:
        start = by_group(solution.to(dtype), groups).masked_fill(dead[..., None, :], 0.0).take_along_dim(places, -1)
    feedback = factor.div_(pivots[..., None, :])

    def settle(first: int, targets: Tensor) -> Decide:
        columns = slice(first, first + targets.shape[-2])
        # What columns would be with all of the block free, each a little off for the sake of the decided ones: their
        # changes d = w − v satisfy d_j + Σ_{k<j} F_kj d_k = w_j − target_j.
        before = start.mT[..., columns, :]
        shifts = before - targets
        within = feedback[..., columns, columns].mT
        free = before - torch.linalg.solve_triangular(within, shifts, upper=False, unitriangular=True)
        # M_jj² is 1 / [H⁻¹]_jj over the inputs still to come, so that this is the root of w² / [H⁻¹]_jj.
        score = free.abs_().mul_(pivots[..., columns, None])
        if pattern is None:
            gone = next(select_smallest([score], counts[first // block]))
        else:
            gone = ~pattern_mask(score.mT.reshape(out, -1), *pattern).view(score.mT.shape).mT
        return lambda column, value: value.masked_fill(gone[..., column - first, :], 0.0)

    swept = sweep(start, start, feedback, settle, block)
    return torch.empty_like(swept).scatter_(-1, places.expand_as(swept), swept).reshape(out, width)


def _with_all_inputs(problem: Quadratic, dead: Tensor, dtype: torch.dtype) -> Quadratic:
    """The same in `dtype`, with a variance of one for `dead` inputs (…, in); their weights come out as zero."""
    moment = problem.moment.to(dtype)
    if bool(dead.any()):
        moment = moment.clone()
        diagonal(moment).masked_fill_(dead, 1.0)
    elif dtype == problem.moment.dtype == problem.cross.dtype:
        return problem
    return Quadratic(moment, problem.cross.to(dtype), problem.energy)
