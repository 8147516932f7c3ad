"""Multiply each row of a weight by the matrix of its group, as a grouped convolution has one for each of its groups.

The rows of a weight (out, in) come group by group, out / groups in each. What belongs to inputs is (…, in) where all
rows see the same ones, and (groups, …, in) where each group has inputs of its own; every function takes both.
"""

from __future__ import annotations

import torch
from torch import Tensor


def by_group(weight: Tensor, groups: int | None) -> Tensor:
    """`weight` (out, …) as (groups, out / groups, …), a view; as it is where there are no groups."""
    return weight if groups is None else weight.unflatten(0, (groups, -1))


def groups_of(moment: Tensor) -> int | None:
    """How many groups a matrix (in, in) or (groups, in, in) is of; None for the one that all rows share."""
    return len(moment) if moment.dim() == 3 else None


def times(weight: Tensor, matrix: Tensor) -> Tensor:
    """W M (out, k) of `weight` (out, in) and `matrix` (in, k) or (groups, in, k)."""
    groups = groups_of(matrix)
    return weight @ matrix if groups is None else (by_group(weight, groups) @ matrix).flatten(0, 1)


def for_rows(vector: Tensor, rows: int) -> Tensor:
    """What rows see of `vector`: (in,) as it is, for all of them; (groups, in) as (rows, in)."""
    return vector if vector.dim() == 1 else vector.repeat_interleave(rows // len(vector), 0)


def diagonal(matrix: Tensor) -> Tensor:
    """The diagonal (in,) or (groups, in) of a matrix (in, in) or (groups, in, in), a view."""
    return matrix.diagonal(dim1=-2, dim2=-1)


def add_product_(total: Tensor, left: Tensor, right: Tensor, share: float = 1.0) -> None:
    """total += share · left @ right, in place, of matrices or of as many of them as there are groups."""
    add = total.addmm_ if total.dim() == 2 else total.baddbmm_
    add(left, right, alpha=share)


def permuted(matrix: Tensor, order: Tensor) -> Tensor:
    """`matrix` (…, in, in) with rows and columns in the `order` (…, in)."""
    return torch.take_along_dim(torch.take_along_dim(matrix, order[..., None], -2), order[..., None, :], -1)
