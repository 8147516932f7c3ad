"""Select the smallest magnitudes exactly where every row gives up its share: a budget over rows, then each row.

Ties go by (row, column): of equal magnitudes in a row the lower column is taken first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rcc.ops.scores import Scores

BATCH = 1 << 20
"""Values whose rows are searched together: enough to be worth a pass, and still in the processor's cache."""


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
    scores = Scores.of(scores)
    total = scores.numel
    if not 0 <= count <= total:
        raise ValueError(f"cannot select {count} of {total} values")
    heights, widths, zeros = [], [], []
    for index in range(len(scores)):
        score = scores[index]
        heights.append(score.shape[0])
        widths.append(torch.full((score.shape[0],), score.shape[1]))
        zeros.append((score == 0).sum(1).cpu())
    counts = share_among_rows(torch.cat(widths), torch.cat(zeros), count).split(heights)
    return (_mask(scores, index, counts[index]) for index in range(len(scores)))


def share_among_rows(widths: Tensor, zeros: Tensor, count: int) -> Tensor:
    """The number of values that each row gives, int64: max(its zeros, its share), and `count` in all.

    Args:
        widths: values of each row. zeros: how many of them are zero.
    """
    counts = zeros.clone()
    free = torch.ones_like(zeros, dtype=torch.bool)
    left = count
    # A row with more zeros than its share is settled at its zeros, which leaves less for each value of the others: what
    # was above its share stays above it, so that no row is ever opened again, and each round settles one at least.
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


def _mask(scores: Scores, index: int, counts: Tensor) -> Tensor:
    """True on the `counts` smallest of each row of one matrix, a few rows at a time."""
    score = scores[index]
    mask = torch.empty(score.shape, dtype=torch.bool, device=score.device)
    wanted = counts.to(score.device)
    batch = max(1, BATCH // max(1, score.shape[1]))
    for rows, some, part in zip(score.split(batch), wanted.split(batch), mask.split(batch), strict=True):
        keys = scores.key(index, rows)
        thresholds = _thresholds(keys, some)
        torch.le(keys, thresholds[:, None], out=part)
        # Where equal keys straddle the count, the last of them stay.
        tied = (part.sum(1) > some).nonzero().view(-1)
        if tied.numel():
            equal = keys[tied] == thresholds[tied, None]
            below = keys[tied] < thresholds[tied, None]
            ties = some[tied] - below.sum(1)
            part[tied] = below | (equal & (equal.cumsum(1) <= ties[:, None]))
    return mask


def _thresholds(keys: Tensor, counts: Tensor) -> Tensor:
    """For each row a key at or under which there are `counts` of its keys, or more if equal ones do not allow it.

    All rows halve their ranges together. A row is done as soon as its count is right, which is long before
    its range is one key: the keys of a row lie far apart.
    """
    # Keys are integers: halving ends after as many passes as they have bits, each a comparison and a sum, where sorting
    # would move all of them and need their places too.
    width = keys.shape[1]
    open_rows = ((counts > 0) & (counts < width)).nonzero().view(-1)
    # The rows that give all or nothing are done already: no key is below 0, and none above the largest integer.
    found = torch.where(counts > 0, torch.iinfo(keys.dtype).max, -1).to(keys.dtype)
    if not open_rows.numel():
        return found
    keys, wanted = keys[open_rows], counts[open_rows].to(keys.dtype)
    low, high, room = keys.amin(1), keys.amax(1), torch.empty_like(keys)
    # Invariant: at or under `high` there are as many keys as wanted, or more.
    while open_rows.numel():
        # Not (low + high) // 2, which overflows: keys of large values are beyond half the largest integer.
        middle = low + (high - low) // 2
        reached = torch.le(keys, middle[:, None], out=room[: len(keys)]).sum(1, dtype=keys.dtype)
        high = torch.where(reached >= wanted, middle, high)
        # With just as many as wanted the range closes at `middle` at once.
        low = torch.where(reached > wanted, low, torch.where(reached < wanted, middle + 1, middle))
        found[open_rows] = high
        going = low < high
        # Taking rows out copies all that stay: worth it once half of them are done. The others keep their `high`.
        if int(torch.count_nonzero(going)) <= len(keys) // 2:
            keys, open_rows, low, high, wanted = keys[going], open_rows[going], low[going], high[going], wanted[going]
    return found
