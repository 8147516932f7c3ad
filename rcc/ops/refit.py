"""Refit what pruning kept: the best values on a fixed support, scales and a bias.

Shapes: weights V (out, in); H (in, in), or one for each group of rows; a coupling A of rows (out, out). A support is
true where a value may be other than zero; elsewhere results are +0.0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.groups import for_rows, times
from rcc.ops.prune import least_squares_factor
from rcc.ops.quadratic import Quadratic

BATCH = 1 << 22
"""Values of H that `refit_exact` gathers at a time: 32 MiB."""


def refit(
    problem: Quadratic,
    support: Tensor,
    start: Tensor | None = None,
    coupling: Tensor | None = None,
    iterations: int = 15,
    tolerance: float = 1e-6,
) -> Tensor:
    """V (out, in) on `support` that minimises tr(A V H Vᵀ) − 2 tr(V Gᵀ), by conjugate gradients.

    All rows at once, with the diagonal of the system as preconditioner (Hestenes & Stiefel 1952; Saad 2003,
    "Iterative Methods for Sparse Linear Systems", algorithm 9.1). Without a coupling each row is a system of its own,
    with its own step lengths.

    Args:
        problem: H positive definite, and G; float64 is computed in float64, all else in float32.
        support: bool (out, in).
        start: V to start from (out, in), zero by default; what it holds outside the support is dropped.
        coupling: A (out, out), symmetric, positive semidefinite, as for `admm_prune`; None is the identity.
        iterations: at most so many, each one product with H and one with A.
        tolerance: a system whose residual is below this share of its right-hand side, both in the norm of the
            preconditioner, changes no more.

    The objective never rises from `start`, but for rounding.

    Raises:
        ValueError: shapes that do not fit.
    """
    dtype = torch.promote_types(problem.moment.dtype, torch.float32)
    moment, outside = problem.moment.to(dtype), ~support
    if support.shape != problem.cross.shape or (start is not None and start.shape != support.shape):
        raise ValueError(f"the support and the start must be {tuple(problem.cross.shape)} as the objective is")
    diagonal = for_rows(problem.diagonal.to(dtype), len(support))
    system: int | tuple[int, int] = 1
    if coupling is not None:
        if coupling.shape != (len(support), len(support)):
            raise ValueError(f"a coupling {tuple(coupling.shape)} does not fit {len(support)} rows")
        coupling = coupling.to(dtype)
        diagonal = coupling.diagonal()[:, None] * diagonal
        system = (0, 1)
    # Zero on the diagonal of a semidefinite system means zeros all along its row: no value there changes anything.
    inverse = torch.where(diagonal > 0, 1 / diagonal, 0.0)

    # Every product is cut to the support: conjugate gradients then run in the system of the support alone.
    def ahead_of(direction: Tensor) -> Tensor:
        product = times(direction, moment)
        return (product if coupling is None else coupling @ product).masked_fill_(outside, 0.0)

    def dot(left: Tensor, right: Tensor) -> Tensor:
        return (left * right).sum(system, keepdim=True)

    residual = problem.cross.to(dtype).masked_fill(outside, 0.0)
    enough = tolerance**2 * dot(residual, residual * inverse)
    if start is None:
        values = torch.zeros_like(residual)
    else:
        values = start.to(dtype).masked_fill(outside, 0.0)
        residual -= ahead_of(values)
    direction = residual * inverse
    size = dot(residual, direction)
    for _ in range(iterations):
        going = size > enough
        if not bool(going.any()):
            break
        ahead = ahead_of(direction)
        curvature = dot(direction, ahead)
        # Systems that are done take steps of zero and stay where they are, though others go on beside them.
        going &= curvature > 0
        step = torch.where(going, size / curvature, 0.0)
        values.addcmul_(step, direction)
        residual.addcmul_(step, ahead, value=-1)
        ahead = residual * inverse
        before, size = size, dot(residual, ahead)
        direction = ahead.addcmul_(torch.where(going, size / before, 0.0), direction)
    return values.masked_fill_(values == 0, 0.0)


def refit_exact(problem: Quadratic, support: Tensor) -> Tensor:
    """V (out, in) on `support` that minimises the objective, by direct solves in float64.

    v_j = H_jj⁻¹ g_j for each row and its own columns j, by Cholesky, many rows of about the same size at a time.
    Costs Σ |j|³/3 multiply-adds and little memory; `refit` reaches the same in products of whole matrices.
    Returned in the dtype of the objective.

    Raises:
        ValueError: shapes that do not fit; or H is singular, to working precision, on the support of a row.
    """
    out, width = problem.cross.shape
    if support.shape != (out, width):
        raise ValueError(f"the support must be {(out, width)} as the objective is, not {tuple(support.shape)}")
    # Rows shorter than others of their batch are filled up with a column of zeros, put after the last one.
    moment = torch.nn.functional.pad(problem.moment.double(), (0, 1, 0, 1))
    cross = torch.nn.functional.pad(problem.cross.double(), (0, 1))
    values = torch.zeros_like(cross)
    sizes = support.sum(1)
    order = sizes.argsort(descending=True, stable=True)  # of like sizes in a batch, little is filled up
    done = 0
    while done < out and (longest := int(sizes[order[done]])) > 0:
        rows = order[done : done + max(1, BATCH // longest**2)]
        done += len(rows)
        columns = _columns(support[rows], longest)
        places = columns[:, :, None], columns[:, None, :]
        if problem.groups is None:
            blocks = moment[places]
        else:
            blocks = moment[(rows // (out // problem.groups))[:, None, None], *places]
        # A one on the diagonal keeps the filling apart from the rest, and its solution is zero.
        blocks.diagonal(dim1=1, dim2=2).add_((columns == width).double())
        factors, failed = torch.linalg.cholesky_ex(blocks)
        # Rounding may carry Cholesky through a singular matrix: a pivot of the size of rounding tells as well.
        pivots, diagonal = factors.diagonal(dim1=1, dim2=2).square(), blocks.diagonal(dim1=1, dim2=2)
        singular = (failed > 0) | (pivots <= longest * torch.finfo(torch.float64).eps * diagonal).any(1)
        if bool(singular.any()):
            row = int(rows[singular].min())
            raise ValueError(
                f"inputs on the support of {int(singular.sum())} rows are linearly dependent (row {row}, "
                f"{int(sizes[row])} values): damp the objective, or keep fewer values"
            )
        solution = torch.cholesky_solve(cross[rows].gather(1, columns)[:, :, None], factors)[:, :, 0]
        values[rows] = values[rows].scatter_(1, columns, solution)
    values = values[:, :width].to(problem.cross.dtype)
    return values.masked_fill_(values == 0, 0.0)


def _columns(support: Tensor, longest: int) -> Tensor:
    """The columns where each row is true, in order, (rows, longest); after the last, the number of columns."""
    row, column = support.nonzero(as_tuple=True)
    lengths = support.sum(1)
    slot = torch.arange(len(row), device=row.device) - (lengths.cumsum(0) - lengths)[row]
    columns = torch.full((len(support), longest), support.shape[1], device=row.device)
    columns[row, slot] = column
    return columns


def row_scales(problem: Quadratic, weight: Tensor) -> Tensor:
    """The factor aᵢ = (gᵢ · vᵢ) / (vᵢ H vᵢ) on each row of `weight` (out, in) that minimises the objective, (out,)
    float64; 1 for rows that put out nothing."""
    weight = weight.to(problem.moment.dtype)
    cross = (problem.cross * weight).sum(1, dtype=torch.float64)
    energy = (times(weight, problem.moment) * weight).sum(1, dtype=torch.float64)
    return least_squares_factor(cross, energy)


def best_bias(mean_target: Tensor, mean_input: Tensor, weight: Tensor) -> Tensor:
    """E[y] − V E[x] (out,), in the wider of the dtypes: with it the mean of the outputs is that of the targets.

    Args:
        mean_target: E[y] (out,), the targets with their own bias in them. mean_input: E[x] (in,) or (groups, in).
        weight: V (out, in).
    """
    wide = torch.promote_types(torch.promote_types(mean_target.dtype, mean_input.dtype), weight.dtype)
    return mean_target.to(wide) - mean_output(weight.to(wide), mean_input.to(wide))


def mean_output(weight: Tensor, mean_input: Tensor) -> Tensor:
    """V E[x] (out,) of a `weight` (out, in) and a mean (in,), or (groups, in) of a grouped one."""
    if mean_input.dim() == 1:
        return weight @ mean_input
    return times(weight, mean_input[..., None])[:, 0]
