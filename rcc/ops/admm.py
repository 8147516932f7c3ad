"""Prune to an exact count by ADMM with a gradually growing mask: matrix products, no loop over rows.

Boža 2024, "Fast and Effective Weight Update for Pruned Large Language Models". The constraint "at most `keep`
values" is split from the quadratic: a linear solve with one factor for all rows and steps alternates with keeping
the largest values, and a running sum of their differences makes the two agree.

Shapes: weights V (out, in); H (in, in), or one for each group of rows; a coupling A of rows (out, out).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rcc.ops.curves import share
from rcc.ops.groups import diagonal, for_rows, times
from rcc.ops.patterns import pattern_count, pattern_mask
from rcc.ops.quadratic import Quadratic
from rcc.ops.row_select import select_by_row
from rcc.ops.select import select_smallest

RIDGE = 1e-3
"""The share of the identity in the correlations of H and A whose inverses are asked for sizes."""
SCOPES = ("layer", "row")


def admm_prune(
    problem: Quadratic,
    keep: int,
    start: Tensor,
    coupling: Tensor | None = None,
    iterations: int = 20,
    growing: int = 15,
    scope: str = "layer",
    scale: Tensor | None = None,
    within: Tensor | None = None,
    pattern: tuple[int, int] | None = None,
) -> Tensor:
    """V (out, in) with `keep` values other than zero that nearly minimises tr(A V H Vᵀ) − 2 tr(V Gᵀ).

    Args:
        problem: H positive definite, and G; float64 is computed in float64, all else in float32.
        keep: how many values stay. Values that are zero in `start` may be among them.
        start: V to start from (out, in).
        coupling: A (out, out), symmetric, positive semidefinite: UᵀU where V is the right factor of U V and
            G = Uᵀ E[y xᵀ]. None is the identity, as it must be for groups.
        iterations: linear solves in all; the mask is final after the first `growing` of them.
        scope: 'layer' compares all values with one another; 'row' keeps the same number in each row, to within one.
        scale: positive factors that broadcast to (out, in), by which scores are multiplied.
        within: bool (out, in), true where a value may be other than zero; None is everywhere.
        pattern: (n, m) keeps n of every m consecutive columns; `keep` must be what that leaves.

    Values are compared, and their penalty is measured, in the geometric mean of two sizes: √H_jj, the root mean
    square of the input, and 1/√[H⁻¹]_jj, of what no other input tells about it; and so for A in rows. The paper
    takes √H_jj alone, which counts what other inputs could make up for and errs more (docs/method/solvers.md).

    Returned in the dtype of the computation, with +0.0 where a value is gone. Exactly `keep` are left unless the
    solution itself has fewer values other than zero, as where a row of G is zero.

    Cost: without coupling a Cholesky inverse of (in, in) and one product with it for each iteration; with one, the
    eigendecompositions of A and H, and two products with the vectors of each for each iteration.

    Raises:
        ValueError: shapes that do not fit, a `keep` out of range or against the pattern, 1 ≤ growing ≤ iterations
            not met, an unknown scope.
    """
    dtype = torch.promote_types(problem.moment.dtype, torch.float32)
    shape, total = problem.cross.shape, problem.cross.numel()
    _check(shape, keep, start, coupling, iterations, growing, scope, within, pattern)

    moment = problem.moment.to(dtype)
    columns = _sizes(moment)
    norms = for_rows(columns, shape[0]).expand(shape)
    # In V' = V D the objective has H' = D⁻¹ H D⁻¹ and G' = G D⁻¹, and likewise for A: ρ = 1 then means the same in
    # every layer, and values are compared by their |V'|.
    moment = (moment / columns[..., :, None]).div_(columns[..., None, :])
    if coupling is not None:
        coupling = coupling.to(dtype)
        rows = _sizes(coupling)
        norms = rows[:, None] * columns
        coupling = (coupling / rows[:, None]).div_(rows)
    solve = _solver(moment, coupling)
    del moment, coupling
    solved = solve(problem.cross.to(dtype) / norms)

    # Scaled ADMM with Z for what is kept and U for the running sum of V − Z:
    #     Z ← the largest of V + U,   U ← U + V − Z,   V ← (G + Z − U)(H + I)⁻¹.
    # All three need V + U alone, which is the state; its next value is U + G(H + I)⁻¹ + (Z − U)(H + I)⁻¹.
    state = start.to(dtype) * norms
    gone = torch.zeros(shape, dtype=torch.bool, device=state.device)
    for iteration in range(iterations):
        # Once the mask stays, the problem is a convex one, and further rounds converge to its least squares.
        if iteration < growing:
            count = round(share("polynomial", iteration, growing) * (total - keep))
            gone = _smallest(state, count, scope, scale, within, pattern)
        kept = state.masked_fill(gone, 0.0)
        state -= kept
        state += solved + solve(kept.sub_(state))
    # Of the two copies Z is returned, which keeps the count; V has values everywhere.
    return state.div_(norms).masked_fill_(gone, 0.0)


def _sizes(matrix: Tensor) -> Tensor:
    """(M_jj / [M⁻¹]_jj)^¼ (…, n) of each j of M (…, n, n), what ρ = 1 and the comparison of values are measured in;
    M_jj = 0 counts as 1."""
    # By the correlations C: [M⁻¹]_jj = [C⁻¹]_jj / M_jj, so that it is √M_jj [C⁻¹]_jj^−¼. C has ones on its diagonal and
    # is far better conditioned than M, whose variances may differ by orders of magnitude; a ridge keeps the ones.
    sizes = diagonal(matrix)
    root = torch.where(sizes > 0, sizes, 1.0).sqrt()
    correlation = (1 + RIDGE) * root[..., :, None] * root[..., None, :]
    torch.div(matrix, correlation, out=correlation)
    diagonal(correlation).add_(RIDGE / (1 + RIDGE))
    factor = torch.linalg.cholesky(correlation)
    del correlation
    return root * diagonal(torch.cholesky_inverse(factor)) ** -0.25


def _solver(moment: Tensor, coupling: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The map from R to the V with A V H + V = R. H is written over."""
    if coupling is None:
        # No eigenvalue of H + I is below 1: it may well be inverted, once, and each iteration is one product.
        diagonal(moment).add_(1)
        torch.linalg.cholesky(moment, out=moment)
        inverse = torch.cholesky_inverse(moment, out=moment)
        return lambda right: times(right, inverse)
    # In the eigenvectors of A and H, A V H + V = R falls apart into (a_i h_j + 1) v_ij = r_ij.
    across, left = torch.linalg.eigh(coupling)
    along, right_vectors = torch.linalg.eigh(moment)
    # Neither has an eigenvalue below zero but for rounding, which must not bring the divisor near 0.
    divisor = across.clamp_min(0)[:, None] * along.clamp_min(0) + 1
    return lambda right: left @ ((left.T @ right @ right_vectors) / divisor) @ right_vectors.T


def _smallest(
    state: Tensor,
    count: int,
    scope: str,
    scale: Tensor | None,
    within: Tensor | None,
    pattern: tuple[int, int] | None,
) -> Tensor:
    """True on the `count` values that go: forbidden ones first, and none of those that a pattern would keep."""
    score = state.abs()
    if scale is not None:
        score *= scale.to(score)
    # Zero means forbidden to what follows, and must mean nothing else.
    score.clamp_min_(torch.finfo(score.dtype).tiny)
    if within is not None:
        score.masked_fill_(~within, 0.0)
        count = max(count, int(torch.count_nonzero(~within)))
    if pattern is not None:
        score.masked_fill_(pattern_mask(score, *pattern), torch.inf)
    select = select_by_row if scope == "row" else select_smallest
    return next(iter(select([score], count)))


def _check(
    shape: torch.Size,
    keep: int,
    start: Tensor,
    coupling: Tensor | None,
    iterations: int,
    growing: int,
    scope: str,
    within: Tensor | None,
    pattern: tuple[int, int] | None,
) -> None:
    out, width = shape
    if start.shape != shape or (within is not None and within.shape != shape):
        raise ValueError(f"the start and the places allowed must be {tuple(shape)} as the objective is")
    if coupling is not None and coupling.shape != (out, out):
        raise ValueError(f"a coupling {tuple(coupling.shape)} does not fit {out} rows")
    if scope not in SCOPES:
        raise ValueError(f"unknown scope '{scope}'; available: {', '.join(SCOPES)}")
    if not 1 <= growing <= iterations:
        raise ValueError(f"growing over {growing} of {iterations} iterations; it takes 1 to all of them")
    most = out * width if within is None else int(torch.count_nonzero(within))
    if pattern is not None:
        most = pattern_count((out, width), *pattern, within)
        if keep != most:
            raise ValueError(f"{pattern[0]}:{pattern[1]} keeps {most} of these {out * width} values, not {keep}")
    if not 0 <= keep <= most:
        raise ValueError(f"cannot keep {keep} of {most} values")
