"""Exact selection of the smallest magnitudes where every row gives up its share: a budget over rows, then each row.

Ties go by (row, column): of equal magnitudes in a row the lower column is taken first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def select_by_row(scores: Sequence[Tensor], count: int) -> Iterator[Tensor]:
    """Masks, one for each score matrix, true on `count` values in all, spread over the rows of all of them.

    Args:
        scores: matrices (rows, columns) of any widths; zeros are the values that are gone already.
        count: how many values to select in all.

    Every row gives the same share of its values, to within one value. A row with more zeros than that gives
    its zeros, and the others so much less; where the zeros are `count` or more together, no others go. The
    masks come lazily, as those of `select_smallest` do.

    Raises:
        ValueError: `count` is out of range.
    """
    total = sum(score.numel() for score in scores)
    if not 0 <= count <= total:
        raise ValueError(f"cannot select {count} of {total} values")
    heights, widths, zeros = [], [], []
    for index in range(len(scores)):
        score = scores[index]
        heights.append(score.shape[0])
        widths.append(torch.full((score.shape[0],), score.shape[1]))
        zeros.append((score == 0).sum(1).cpu())
    counts = share_among_rows(torch.cat(widths), torch.cat(zeros), count).split(heights)
    return (_mask(scores[index], counts[index]) for index in range(len(scores)))


def share_among_rows(widths: Tensor, zeros: Tensor, count: int) -> Tensor:
    """How many values each row gives, int64: max(its zeros, its share), and `count` in all.

    Args:
        widths: values of each row. zeros: how many of them are zero.
    """
    counts = zeros.clone()
    free = torch.ones_like(zeros, dtype=torch.bool)
    left = count
    while bool(free.any()) and left > 0:
        # Rounding the running sum, not each part, keeps the total exact and each row within one of its share.
        running = torch.cat((widths.new_zeros(1), widths[free].cumsum(0)))
        shares = (left * running // running[-1]).diff()
        over = zeros[free] > shares
        if not bool(over.any()):
            counts[free] = shares
            break
        places = free.nonzero().view(-1)[over]
        free[places] = False
        left -= int(zeros[places].sum())
    return counts


def _mask(score: Tensor, counts: Tensor) -> Tensor:
    magnitude = score.abs().to(torch.promote_types(score.dtype, torch.float32))
    order = magnitude.argsort(dim=1, stable=True)
    places = torch.arange(score.shape[1], device=score.device)
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, order, places < counts.to(score.device)[:, None])
