"""Compute symmetric products and their eigenvectors from the lower triangle alone."""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.groups import add_product_

BLOCKS = 6
"""Row blocks of a triangle: b blocks take (b + 1) / 2b of the multiplications of the whole product."""


def lower_triangle(left: Tensor, right: Tensor) -> Tensor:
    """The lower triangle of left @ right, (n, k) and (k, n), where that product is known to be symmetric.

    Above the diagonal blocks it is zero, below and in them it is the product: what `eigh` and `cholesky` read.
    """
    size = left.shape[0]
    product = left.new_zeros(size, size)
    step = -(-size // BLOCKS)
    for start in range(0, size, step):
        end = start + step
        torch.mm(left[start:end], right[:, :end], out=product[start:end, :end])
    return product


def add_gram_(lower: Tensor, rows: Tensor, share: float) -> None:
    """Add `share` · rowsᵀ rows, (…, n, in), to the lower triangle, in blocks, of `lower` (…, in, in), in place."""
    size = lower.shape[-1]
    # Those of groups are small, and reading the rows is what they cost: once.
    step = -(-size // BLOCKS) if lower.dim() == 2 else size
    for start in range(0, size, step):
        end = start + step
        add_product_(lower[..., start:end, :end], rows[..., start:end].mT, rows[..., :end], share)


def mirror_(lower: Tensor) -> Tensor:
    """Write what lies below the diagonal blocks of `lower` (…, n, n) above them, in place; returns it."""
    step = -(-lower.shape[-1] // BLOCKS)
    for start in range(step, lower.shape[-1], step):
        end = start + step
        lower[..., :start, start:end] = lower[..., start:end, :start].mT
    return lower


def descending_eigh(lower: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,), largest first, and eigenvectors (n, n) as columns, of a matrix given by its lower triangle."""
    values, vectors = torch.linalg.eigh(lower, UPLO="L")
    return values.flip(0), vectors.flip(1)
