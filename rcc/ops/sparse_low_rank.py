"""Fit a weight as S + U V in the metric of the inputs: an exact number of non-zeros in S, a given rank of U V.

OATS (Zhang & Papyan 2024, arXiv:2409.13652, algorithm 1) scales W by D = diag(H)^½ and alternates a truncated SVD of
W D − S D with hard thresholding of W D − U V D. That is the alternation here for the quadratic whose moment is
D². With the whole of H both steps see how the inputs are correlated: the truncation is that of `rcc.ops.whitened`,
values are ranked by what their loss costs once all others make up for it, and those kept are refitted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit
from rcc.ops.select import select_smallest
from rcc.ops.whitened import Whitened, whitened

METRICS = ("full", "diagonal")
PUBLISHED_ROUNDS = 3
"""Rounds with which the full metric starts in the diagonal one: at once in the full one, the refit settles on the
first support it meets."""
REFIT_ITERATIONS = 8
"""Conjugate gradient steps a round; the alternation goes on from where they stop."""


def sparse_plus_low_rank(
    problem: Quadratic, rank: int, keep: int, rounds: int = 10, metric: str = "full"
) -> tuple[Tensor, Tensor, Tensor]:
    """S (out, in), U (out, rank) and V (rank, in): the best of `rounds` rounds by the error of the quadratic.

    A round is one sparse step, S given U V, and one low-rank step, U V given S, the first from U V alone. The low-rank
    step is exact. The sparse step keeps the `keep` values of T = W* − U V with the largest |tⱼ| / √[H⁻¹]ⱼⱼ, the
    saliency of the optimal brain surgeon (Hassibi & Stork 1993) at a minimum, and fits them to what is left.

    Args:
        problem: H positive definite.
        keep: non-zeros of S, 0 … out · in; exact, but 0 where U V alone is best. S is dense, with zeros.
        metric: 'full', or 'diagonal' as published: all rounds then take inputs for uncorrelated.

    Costs a round one eigendecomposition of min(out, in) and about REFIT_ITERATIONS + 4 times out in².

    Raises:
        ValueError: a rank, a count, a number of rounds or a metric that cannot be.
    """
    solution = problem.solution
    if not 0 <= keep <= solution.numel() or rounds < 1:
        raise ValueError(f"cannot keep {keep} of {solution.numel()} values in {rounds} rounds")
    if metric not in METRICS:
        raise ValueError(f"metric '{metric}' is none of {', '.join(METRICS)}")
    # With a diagonal H both steps are the published ones: one step of the refit is then exact.
    diagonal = Quadratic.around(solution, problem.moment.diagonal().diag())
    left, right = whitened(diagonal if metric == "diagonal" else problem, solution).pair(rank)
    best, least = (torch.zeros_like(solution), left, right), float(problem.error(left @ right).sum())
    left, right = whitened(diagonal, solution).pair(rank)
    published = rounds if metric == "diagonal" else min(PUBLISHED_ROUNDS, rounds)
    for inner, count in ((diagonal, published), (problem, rounds - published)):
        saliency = torch.cholesky_inverse(inner.cholesky).diagonal().rsqrt()
        for _ in range(count):
            sparse = _thresholded(inner, solution, left, right, keep, saliency)
            left, right = _truncated(inner, solution, sparse, rank)
            error = float(problem.error(sparse + left @ right).sum())
            if error < least:
                best, least = (sparse, left, right), error
    return best


def beside_sparse(problem: Quadratic, sparse: Tensor) -> Whitened:
    """The pairs U V of every rank for which S + U V is best, with S = `sparse` (out, in) as it is.

    The whitened truncations of W* − S: exact, in the metric of the inputs.

    Raises:
        ValueError: an S that does not fit the problem.
    """
    if sparse.shape != problem.cross.shape:
        raise ValueError(f"a matrix {tuple(sparse.shape)} does not fit {tuple(problem.cross.shape)}")
    sparse = sparse.to(problem.moment.dtype)
    return _rest(problem, problem.solution, sparse, problem.error(sparse))


def _truncated(problem: Quadratic, solution: Tensor, sparse: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    # The energy is not that of what is left, which only `errors` would ask for.
    return _rest(problem, solution, sparse, problem.energy).pair(rank)


def _rest(problem: Quadratic, solution: Tensor, sparse: Tensor, energy: Tensor) -> Whitened:
    return whitened(Quadratic(problem.moment, problem.cross - sparse @ problem.moment, energy), solution - sparse)


def _thresholded(
    problem: Quadratic, solution: Tensor, left: Tensor, right: Tensor, keep: int, saliency: Tensor
) -> Tensor:
    rest = solution - left @ right
    (gone,) = select_smallest([rest.abs() * saliency], rest.numel() - keep)
    cross = problem.cross - left @ (right @ problem.moment)
    return refit(Quadratic(problem.moment, cross, problem.energy), ~gone, rest, iterations=REFIT_ITERATIONS)
