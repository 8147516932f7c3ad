"""Compare subspaces: orthonormal bases, complements, principal angles, overlap, distance.

A subspace of dimension k of Rⁿ is held by a basis (k, n) with orthonormal *rows*, as V of an SVD is. All is
computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """The overlap and the distance of two subspaces of Rⁿ of dimensions `widths`. NaN where undefined, with the reason.

    overlap: mean squared cosine of their principal angles, in [0, 1].
    baseline: its expectation for independent uniformly random subspaces of these dimensions.
    distance: geodesic (Grassmann) distance over the largest possible one, in [0, 1].
    """

    overlap: float
    baseline: float
    distance: float
    widths: tuple[int, int]
    dimension: int
    reason: str = ""

    @property
    def excess(self) -> float:
        """Overlap corrected for chance: 0 for random, 1 for equal subspaces; NaN where Rⁿ is spanned."""
        return (self.overlap - self.baseline) / (1 - self.baseline) if self.baseline < 1 else math.nan


def row_basis(matrix: Tensor) -> Tensor:
    """An orthonormal basis (k, n) of the row space of `matrix` (r, n), k its numerical rank.

    By QR of the transpose and an SVD of its small triangle, in whose values the rank is read: linearly dependent rows
    and rows of zeros add nothing. Cut-off: ε · max(r, n) of the largest, ε that of the matrix's own dtype.
    """
    tolerance = torch.finfo(matrix.dtype).eps * max(matrix.shape)
    q, r = torch.linalg.qr(_float64(matrix).T)
    u, values, _ = torch.linalg.svd(r, full_matrices=False)
    rank = int((values > tolerance * values.max()).sum()) if values.numel() else 0
    return (q @ u[:, :rank]).T.contiguous()


def complement(basis: Tensor) -> Tensor:
    """An orthonormal basis (n - k, n) of everything orthogonal to `basis` (k, n)."""
    rows = _float64(basis)
    q, _ = torch.linalg.qr(rows.T, mode="complete")
    return q[:, rows.shape[0] :].T.contiguous()


def project_out(matrix: Tensor, directions: Tensor) -> Tensor:
    """(I - Dᵀ D) matrix: `matrix` (m, n) without its part along the orthonormal rows of `directions` (k, m).

    Computed in float64, returned in the matrix's dtype.
    """
    rows, whole = _float64(directions), _float64(matrix)
    return (whole - rows.T @ (rows @ whole)).to(matrix.device, matrix.dtype)


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """The min(k₁, k₂) angles between two bases (k₁, n) and (k₂, n), in [0, π/2], ascending.

    The arc cosine loses half the digits of a small angle; those below π/4 come from the sines, the singular
    values of what one basis has outside the other (Björck & Golub 1973; Knyazev & Argentati 2002).
    """
    wide, narrow = _float64(first), _float64(second)
    if wide.shape[0] < narrow.shape[0]:
        wide, narrow = narrow, wide
    product = narrow @ wide.T
    cosines = torch.linalg.svdvals(product).clamp(0, 1)
    # The sines rise as the cosines fall: turned round, each stands beside the cosine of its own angle.
    sines = torch.linalg.svdvals(narrow - product @ wide).clamp(0, 1).flip(0)
    return torch.where(cosines.square() > 0.5, sines.asin(), cosines.acos())


def compare(first: Tensor, second: Tensor) -> Comparison:
    """Overlap, its random baseline, and distance of two bases (k₁, n) and (k₂, n).

    The overlap of k₁ ≤ k₂ is ‖first secondᵀ‖² / k₁ and its expectation for a uniformly random subspace is
    k₂ / n, since a random unit vector has k₂ / n of its square inside a fixed k₂-dimensional space. The
    distance is the 2-norm of the angles over (π/2) √min(k, n - k): two k-dimensional spaces share at least
    2k - n dimensions, so that no more than min(k, n - k) angles can differ from zero. It is undefined
    between different dimensions.

    Raises:
        ValueError: the bases live in spaces of different dimension.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"bases of R^{first.shape[1]} and R^{second.shape[1]} cannot be compared")
    narrow, wide = sorted((first.shape[0], second.shape[0]))
    n, widths = first.shape[1], (first.shape[0], second.shape[0])
    if narrow == 0:
        empty = "both subspaces are" if wide == 0 else "one subspace is"
        return Comparison(math.nan, math.nan, math.nan, widths, n, f"{empty} empty")
    overlap = min(1.0, float((_float64(first) @ _float64(second).T).square().sum()) / narrow)
    baseline = wide / n
    if narrow != wide:
        return Comparison(overlap, baseline, math.nan, widths, n, f"widths {narrow} and {wide} differ: no distance")
    if wide == n:
        return Comparison(overlap, baseline, math.nan, widths, n, f"both span all {n} dimensions: no distance")
    largest = math.pi / 2 * math.sqrt(min(wide, n - wide))
    distance = float(torch.linalg.vector_norm(principal_angles(first, second))) / largest
    return Comparison(overlap, baseline, distance, widths, n)


def _float64(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)
