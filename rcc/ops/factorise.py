"""Factorise a weight by truncated SVD: the decomposition, the rank to keep, and the two factors to store.

Shapes: a weight is (m, n), k = min(m, n); U (m, k), singular values (k,) descending, V (k, n) with
orthonormal rows, so that the weight is U diag(values) V.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rcc.ops.symmetric import descending_eigh, lower_triangle

PRECISIONS = ("auto", "float64", "float32")
FACTORS = ("orthonormal", "balanced")
SMALL = 256
"""Up to this many singular values `precision='auto'` takes LAPACK's SVD in float64 at once."""
WELL_CONDITIONED = 1e-4
"""Least σ_min / σ_max at which the Gram matrix in float64 still gives singular vectors good to 1e-8."""
_ROUNDING = 1e-12


class Svd(NamedTuple):
    """U (m, k), values (k,) descending, V (k, n)."""

    left: Tensor
    values: Tensor
    right: Tensor


@dataclass(frozen=True)
class Rank:
    """The rank chosen, the rule that bound it ('energy' or 'share'), and the share of energy it keeps."""

    rank: int
    bound: str
    energy: float


def thin_svd(matrix: Tensor, precision: str = "auto") -> Svd:
    """The thin SVD of `matrix` (m, n), with signs fixed and what is exactly zero kept so.

    Args:
        precision: 'float64' and 'float32' run LAPACK's SVD in that dtype. 'auto' works in float64 throughout:
            by LAPACK where min(m, n) ≤ 256, and else from the eigenvectors of the smaller Gram matrix, up to
            three times as fast, unless σ_min / σ_max < 1e-4. A Gram matrix squares the condition number: its
            float64 vectors are then orthonormal to about 2e-16 (σ_max / σ)², which is 2e-8 at that limit.

    The largest entry (by magnitude, the first on a tie) of every row of V is positive, which settles the one
    freedom that a simple singular value leaves. Rows and columns of zeros stay exactly zero in U and V as
    long as their singular value is not zero.

    Raises:
        ValueError: the matrix is not two-dimensional, is empty, holds a NaN or an infinity, or the precision
            is unknown.
    """
    _check(matrix, precision)
    work = matrix.detach()
    if work.device.type == "mps":  # has no float64
        work = work.cpu()
    work = work.to(torch.float32 if precision == "float32" else torch.float64)
    svd = None
    if precision == "auto" and min(work.shape) > SMALL:
        svd = _from_gram(work)
    if svd is None:
        svd = Svd(*torch.linalg.svd(work, full_matrices=False))
    return settled(svd, (work != 0).any(1), (work != 0).any(0))


def svd_of_product(left: Tensor, right: Tensor, precision: str = "auto") -> Svd:
    """The thin SVD of left @ right, (m, r) and (r, n), without forming it: QR of both, SVD of the core.

    Costs O((m + n) r²) instead of O(m n min(m, n)). Returns min(m, n, r) components.
    """
    if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[0]:
        raise ValueError(f"factors {tuple(left.shape)} and {tuple(right.shape)} do not multiply")
    _check(left, precision)
    _check(right, precision)
    dtype = torch.float32 if precision == "float32" else torch.float64
    first, last = left.detach(), right.detach()
    if first.device.type == "mps":
        first, last = first.cpu(), last.cpu()
    first, last = first.to(dtype), last.to(dtype)
    q_left, r_left = torch.linalg.qr(first)
    q_right, r_right = torch.linalg.qr(last.T)
    core = Svd(*torch.linalg.svd(r_left @ r_right.T, full_matrices=False))
    svd = Svd(q_left @ core.left, core.values, core.right @ q_right.T)
    return settled(svd, (first != 0).any(1), (last != 0).any(0))


def rank_by_energy(values: Tensor, threshold: float) -> int:
    """The smallest rank whose squared singular values reach `threshold` of their sum; at least 1.

    It is the *index* where the cumulated energy reaches the threshold, plus one. A rounding error of 1e-12 of
    the sum is forgiven, so that an energy that is reached exactly on paper is reached here.
    """
    energy = values.detach().to("cpu", torch.float64).square().cumsum(0)
    target = threshold * energy[-1] * (1 - _ROUNDING)
    index = int(torch.searchsorted(energy, target))
    return min(index, values.numel() - 1) + 1


def rank_by_share(shape: tuple[int, int], share: float) -> int:
    """The largest rank r whose factors, r (m + n) values, fit into `share` of the m n values; may be 0."""
    m, n = shape
    # 1 - 0.9 is a little less than 0.1: a rank that fits on paper must not be lost to that.
    return math.floor(share * m * n / (m + n) * (1 + _ROUNDING))


def select_rank(values: Tensor, shape: tuple[int, int], energy: float | None, share: float | None) -> Rank:
    """The smaller of the two ranks, and which rule it came from; at least 1. None switches a rule off.

    Raises:
        ValueError: both rules are off.
    """
    if energy is None and share is None:
        raise ValueError("no rule to choose the rank by: give an energy, a share, or both")
    most = values.numel()
    by_energy = most if energy is None else rank_by_energy(values, energy)
    by_share = most if share is None else min(most, max(1, rank_by_share(shape, share)))
    bound = "energy" if share is None or (energy is not None and by_energy <= by_share) else "share"
    rank = min(by_energy, by_share)
    return Rank(rank, bound, kept_energy(values, rank))


def kept_energy(values: Tensor, rank: int) -> float:
    """Share of the sum of squared singular values in the first `rank`; 1 for a matrix of zeros.

    By Eckart–Young the squared relative Frobenius error of the truncation is one minus this.
    """
    squared = values.detach().to("cpu", torch.float64).square()
    total = float(squared.sum())
    return float(squared[:rank].sum()) / total if total > 0 else 1.0


def factor_pair(svd: Svd, rank: int, factors: str = "orthonormal") -> tuple[Tensor, Tensor]:
    """The contiguous pair (m, rank) and (rank, n) whose product is the best approximation of that rank.

    'orthonormal' puts the singular values into the left factor and leaves the rows of the right one
    orthonormal; 'balanced' gives each their square root, so that the values of both are of one size.
    """
    values = svd.values[:rank]
    if factors == "balanced":
        root = values.sqrt()
        return (svd.left[:, :rank] * root).contiguous(), (root[:, None] * svd.right[:rank]).contiguous()
    return (svd.left[:, :rank] * values).contiguous(), svd.right[:rank].contiguous()


def _check(matrix: Tensor, precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is none of {', '.join(PRECISIONS)}")
    if matrix.dim() != 2 or matrix.numel() == 0:
        raise ValueError(f"a matrix is needed, not a tensor of shape {tuple(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("the matrix holds a NaN or an infinity")


def _from_gram(matrix: Tensor) -> Svd | None:
    """The SVD from the eigenvectors of the smaller Gram matrix; None where that is too ill-conditioned."""
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = lower_triangle(matrix, matrix.T) if wide else lower_triangle(matrix.T, matrix)
    squares, vectors = descending_eigh(gram)
    if not float(squares[-1]) > WELL_CONDITIONED**2 * float(squares[0]):
        return None
    values = squares.sqrt()
    if wide:
        return Svd(vectors, values, (vectors.T @ matrix) / values[:, None])
    return Svd((matrix @ vectors) / values, values, vectors.T)


def settled(svd: Svd, live_rows: Tensor, live_columns: Tensor) -> Svd:
    """Fix the signs, and take rounding noise out of the rows and columns that were exactly zero."""
    peak = svd.right.abs().argmax(1, keepdim=True)
    sign = torch.where(svd.right.gather(1, peak) < 0, -1.0, 1.0).to(svd.right.dtype)
    largest = max(live_rows.numel(), live_columns.numel())
    # Vectors of a vanishing singular value may well live in the zero rows: they are left orthonormal.
    present = svd.values > torch.finfo(svd.values.dtype).eps * largest * svd.values[0]
    left = (svd.left * sign.T).masked_fill(~live_rows[:, None] & present, 0.0)
    right = (svd.right * sign).masked_fill(present[:, None] & ~live_columns, 0.0)
    return Svd(left, svd.values, right)
