"""Select N:M patterns: n values kept of every m consecutive columns, which sparse tensor cores run at speed (2:4).

Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks".
"""

from __future__ import annotations

import torch
from torch import Tensor


def pattern_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """Bool of the shape of `scores` (rows, columns), true on the n largest of every m consecutive columns.

    Of equal scores the lower column is kept.

    Raises:
        ValueError: not 0 ≤ n ≤ m, or a number of columns that m does not divide.
    """
    _check(scores.shape[1], n, m)
    columns = scores.reshape(-1, m).T.contiguous()
    # How many of its group come before each: comparing pairs is several times as fast as sorting tiny groups.
    before = torch.zeros(columns.shape, dtype=torch.int16, device=scores.device)
    for low in range(m):
        for high in range(low + 1, m):
            first = columns[low] >= columns[high]
            before[high] += first
            before[low] += ~first
    return (before < n).T.reshape(scores.shape)


def pattern_count(shape: tuple[int, int], n: int, m: int, within: Tensor | None = None) -> int:
    """The number of values that n of every m columns leave of a matrix of `shape`; of those `within` (bool), if given.

    Raises:
        ValueError: as for `pattern_mask`.
    """
    rows, width = shape
    _check(width, n, m)
    if within is None:
        return rows * width // m * n
    return int(within.reshape(rows, -1, m).sum(2).clamp_max(n).sum())


def _check(width: int, n: int, m: int) -> None:
    if not 0 <= n <= m or m < 1:
        raise ValueError(f"{n}:{m} is no pattern: it takes 0 ≤ n ≤ m and m ≥ 1")
    if width % m:
        raise ValueError(f"{n}:{m} needs a width divisible by {m}, not {width}")
