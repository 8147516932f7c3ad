"""Where a list of tensors is to be cut so that exactly k magnitudes lie below: found in about one pass.

The order of two values is the order of (magnitude, tensor, flat index), so that ties never make a count wrong
and the same input always gives the same choice. NaN ranks above infinity.

A random sample brackets the k-th key, as in Floyd and Rivest's selection (Commun. ACM 18, 1975). One pass counts
the keys below the bracket and gathers what may be inside it: each chunk is laid out as a matrix of a few rows,
comparisons are summed down its columns, and a column is gathered whole where the two sums differ. These sums run
at the speed of the cache, and only sums, a fraction of the values, are looked at one by one. The few values
gathered are cut in the same way, until so few are left that they are partitioned directly.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rcc.ops.scores import LARGEST, Scores

SAMPLE = 1
"""Values drawn to bracket the k-th of n keys, in units of n^⅔: sampling and what it saves then cost the same."""
GROUP = 8
"""Neighbours drawn together, from one line of the cache."""
DEVIATIONS = (2, 6)
"""Half width of the bracket in standard deviations of the sampled rank, and after a miss, as one in 22 does: that costs
one more pass."""
DIRECT = 1 << 14
"""So few values are partitioned without a bracket."""
ROWS = 16
"""Values in a column: more make the sums fewer and the columns with something inside more."""
SHARE = 4
"""At most one value in so many is gathered."""


@dataclass(frozen=True)
class Cut:
    """Every key below `key` is in, and of those equal to it the ones before flat index `place` of `tensor`."""

    key: int
    tensor: int = 0
    place: int = 0

    def ties_before(self, index: int, size: int) -> int:
        """The flat index in tensor `index`, of `size` values, before which keys equal to `key` are in."""
        return self.place if index == self.tensor else size if index < self.tensor else 0


def find_cut(scores: Scores, count: int) -> Cut:
    """The cut that selects exactly `count` values of `scores`, 0 to all of them.

    Cost: one pass; three or four where a value repeats very often next to the cut; extra memory for 1/4 of the
    values at most. Whatever the sample says, no more passes than a key has bits.
    """
    if count == 0:
        return Cut(0)
    if scores.numel <= DIRECT:
        return _partition(scores, count)
    limit = scores.numel // SHARE
    low, high, below, upto = 0, LARGEST[scores.dtype], 0, scores.numel
    brackets: list[tuple[int, int, int]] = []
    deviations = iter(DEVIATIONS)
    # Invariant: `below` keys lie under low, `upto` at or under high, and below < count <= upto.
    while low < high:
        if not brackets:
            brackets = _next_brackets(scores, count, low, high, upto - below, limit, next(deviations, None))
        first, last, expected = brackets.pop(0)
        first, last = max(first, low), min(last, high)
        if first > last:
            continue
        found = _probe(scores, first, last, _rows(limit, expected), limit if expected <= limit else 0)
        if count <= found.under:
            high, upto = first - 1, found.under
        elif count > found.upto:
            low, below = last + 1, found.upto
        else:
            low, high, below, upto = first, last, found.under, found.upto
            if found.gathered is not None:
                return _within(scores, found, first, last, count)
    return _place(scores, low, count - below)


def _next_brackets(
    scores: Scores, count: int, low: int, high: int, inside: int, limit: int, deviations: float | None
) -> list[tuple[int, int, int]]:
    """Where to look next for a key that is one of `inside` from `low` to `high`: (first, last, how many expected)."""
    if inside <= (DIRECT if deviations else limit):
        return [(low, high, inside)]
    if deviations is None:
        return [(low, low + (high - low) // 2, inside)]
    first, last, expected = _bracket(scores, count, deviations)
    if expected <= limit:
        return [(first, last, expected)]
    # So many values in so few ranks: the first of them or the last, if not both, repeats beyond the bracket.
    return [(first, first, expected), (last, last, expected)]


@dataclass
class _Found:
    """What a pass saw: how many keys are under the bracket and up to its end, and the columns it gathered."""

    under: int = 0
    upto: int = 0
    gathered: Tensor | None = None
    ends: list[int] = field(default_factory=list)
    """Where the keys of each part end in `gathered`; within a part they are in the order of their places."""
    parts: list[tuple[int, int, int, Tensor]] = field(default_factory=list)
    """Of each part its tensor, the flat index of its first value, its width, and the columns gathered of it."""


def _probe(scores: Scores, first: int, last: int, rows: int, limit: int) -> _Found:
    """One pass over all keys: `gathered` has all from `first` to `last`, and others; None for more than `limit`."""
    found, kept = _Found(), 0
    # One piece of memory for each purpose: pieces made in every chunk would scatter over the heap.
    room = classes = sums = torch.empty(0)
    for index, begin, keys in _chunks(scores):
        if not classes.numel():
            room, classes = keys.new_empty(limit), keys.new_empty(scores.chunk)
            sums = keys.new_empty((2, max(rows, classes.numel() // rows)))
        whole = keys.numel() // rows * rows
        # What does not fill a row at the end of a chunk is a matrix of one row.
        for height, start, part in ((rows, begin, keys[:whole]), (1, begin + whole, keys[whole:])):
            if not part.numel():
                continue
            matrix, compared = part.view(height, -1), classes[: part.numel()].view(height, -1)
            width = matrix.shape[1]
            both = sums[:, :width]
            lower, inside = both
            torch.sum(torch.lt(matrix, first, out=compared), 0, dtype=keys.dtype, out=lower)
            torch.sum(torch.le(matrix, last, out=compared), 0, dtype=keys.dtype, out=inside)
            inside -= lower
            under, between = both.sum(1, dtype=keys.dtype).tolist()
            found.under += under
            found.upto += under + between
            if not between or kept > limit:
                continue
            columns = inside.nonzero().view(-1)
            size = columns.numel() * height
            if kept + size <= limit:
                torch.gather(matrix, 1, columns.expand(height, -1), out=room[kept : kept + size].view(height, -1))
                found.parts.append((index, start, width, columns))
            kept += size
            found.ends.append(kept)
    found.gathered = room[:kept] if kept <= limit else None
    return found


def _within(scores: Scores, found: _Found, first: int, last: int, count: int) -> Cut:
    """The cut of `scores` from that of the keys gathered from `first` to `last`, among which the one in question is."""
    gathered = found.gathered
    assert gathered is not None
    # As integers: comparisons that give booleans are slower, and a difference of two is one where both hold.
    upto, under = torch.empty_like(gathered), torch.empty_like(gathered)
    torch.le(gathered, last, out=upto).sub_(torch.lt(gathered, first, out=under))
    between = upto.nonzero().view(-1)
    inner = find_cut(Scores.of([gathered[between].view(scores.dtype)]), count - found.under)
    place = int(between[inner.place - 1])
    number = bisect_right(found.ends, place)
    index, start, width, columns = found.parts[number]
    row, column = divmod(place - (found.ends[number - 1] if number else 0), columns.numel())
    return Cut(inner.key, index, start + row * width + int(columns[column]) + 1)


def _place(scores: Scores, key: int, ties: int) -> Cut:
    """The cut after the first `ties` keys equal to `key`."""
    for index, start, keys in _chunks(scores):
        equal = keys == key
        found = int(torch.count_nonzero(equal))
        if found >= ties:
            return Cut(key, index, start + int(equal.nonzero()[ties - 1]) + 1)
        ties -= found
    raise AssertionError("scores changed between two readings")


def _partition(scores: Scores, count: int) -> Cut:
    keys = torch.cat([scores.key(index, scores[index].reshape(-1)) for index in range(len(scores))])
    key = int(keys.kthvalue(count).values)
    return _place(scores, key, count - int(torch.count_nonzero(keys < key)))


def _bracket(scores: Scores, count: int, deviations: float) -> tuple[int, int, int]:
    """Two keys that very likely have the `count`-th smallest between them, and about how many values do.

    A few neighbours are drawn at random from each of many equal stretches: a fixed stride can run along the
    columns of a matrix, and reading scattered values is what sampling costs. The seed is fixed: the sample
    decides how fast the cut is found, never where it is.
    """
    generator = torch.Generator().manual_seed(0)
    total, drawn = scores.numel, []
    sample = SAMPLE * total ** (2 / 3)
    for index, size in enumerate(scores.sizes):
        group = min(GROUP, size)
        draws = math.ceil(sample * size / total / GROUP)
        if draws and group:
            groups = scores[index].reshape(-1)[: size // group * group].view(-1, group)
            draws = min(draws, len(groups))
            places = torch.arange(draws).mul_(len(groups)).floor_divide_(draws)
            places += torch.randint(len(groups) // draws, (draws,), generator=generator)
            drawn.append(scores.key(index, groups[places.to(groups.device)].view(-1)))
    keys = torch.cat(drawn)
    share = count / total
    rank = 1 + share * len(keys)
    margin = deviations * (len(keys) * share * (1 - share)) ** 0.5 + 1
    lower, upper = (min(len(keys), max(1, int(rank + side))) for side in (-margin, margin))
    first = int(keys.kthvalue(lower).values)
    above = keys[keys >= first]
    last = int(above.kthvalue(upper - len(keys) + len(above)).values)
    inside = int(torch.count_nonzero(above <= last))
    return first, last, inside * total // len(keys)


def _rows(limit: int, expected: int) -> int:
    """A power of two, since the sizes of matrices are its multiples, that fills two thirds of `limit` at most."""
    most = max(1, min(ROWS, limit * 2 // (3 * expected + 1)))
    return 1 << most.bit_length() - 1


def _chunks(scores: Scores) -> Iterator[tuple[int, int, Tensor]]:
    """All keys: (tensor, flat index of the first, keys) by chunks."""
    for index in range(len(scores)):
        for start, keys in scores.keys(index, scores[index]):
            yield index, start, keys
