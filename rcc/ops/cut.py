"""Find the boundary below which exactly k magnitudes of a list of tensors lie, in about one pass.

The order of two values is the order of (magnitude, tensor, flat index), so that ties never make a count wrong
and the same input always gives the same choice. NaN ranks above infinity.

A random sample brackets the k-th key, as in Floyd and Rivest's selection (Commun. ACM 18, 1975). One pass counts
the keys below the bracket and gathers those inside it: each chunk is laid out as a matrix of a few rows, comparisons
are summed down its columns, and only columns where the two sums differ are looked at value by value. These sums run
at the speed of the cache. The few values gathered are cut in the same way, until so few are left that they are
partitioned directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rcc.ops.scores import LARGEST, Scores

SAMPLE = 1
"""Values drawn to bracket the k-th of n keys, in units of n^⅔. The rank in a sample of s deviates by about √s, that is
n/√s of all keys, which must be gathered: s + n/√s is least where s grows as n^⅔."""
GROUP = 8
"""Neighbours drawn together, from one line of the cache."""
DEVIATIONS = (2, 6)
"""Half width of the bracket in standard deviations of the sampled rank, and after a miss, as one in 22 does: that costs
one more pass."""
DIRECT = 1 << 14
"""So few values are partitioned without a bracket."""
ROWS = 16
"""Most values in a column: more make the sums fewer and the columns with something inside longer."""
SHARE = 16
"""At most one value in so many is gathered."""


@dataclass(frozen=True)
class Boundary:
    """Every key below `key` is in, and of those equal to it the ones before flat index `place` of `tensor`."""

    key: int
    tensor: int = 0
    place: int = 0

    def ties_before(self, index: int, size: int) -> int:
        """The flat index in tensor `index`, of `size` values, before which keys equal to `key` are in."""
        return self.place if index == self.tensor else size if index < self.tensor else 0


def find_cut(scores: Scores, count: int) -> Boundary:
    """The cut that selects exactly `count` values of `scores`, 0 to all of them.

    Cost: one pass; three or four where a value repeats very often next to the cut; for 1/16 of the values at most
    extra memory, the value and its place. Whatever the sample says, no more passes than a key has bits.
    """
    if count == 0:
        return Boundary(0)
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
        # Of two brackets the second may lie beyond what the first one left.
        first, last = max(first, low), min(last, high)
        if first > last:
            continue
        found = _probe(scores, first, last, _rows(scores.numel, expected), limit if expected <= limit else 0)
        if count <= found.under:
            high, upto = first - 1, found.under
        elif count > found.upto:
            low, below = last + 1, found.upto
        else:
            low, high, below, upto = first, last, found.under, found.upto
            if found.complete:
                return _within(scores, found, count)
    # All keys that are left are equal: the cut runs among them, by their places.
    return _place(scores, low, count - below)


def _next_brackets(
    scores: Scores, count: int, low: int, high: int, inside: int, limit: int, deviations: float | None
) -> list[tuple[int, int, int]]:
    """Brackets to probe for a key that is one of `inside` from `low` to `high`: (first, last, number expected)."""
    if inside <= (DIRECT if deviations else limit):
        return [(low, high, inside)]
    # After both samples, halves: whatever the values are, the range is one key after as many passes
    # as a key has bits.
    if deviations is None:
        return [(low, low + (high - low) // 2, inside)]
    first, last, expected = _bracket(scores, count, deviations)
    if expected <= limit:
        return [(first, last, expected)]
    # So many values in so few ranks: the first of them or the last, if not both, repeats beyond the bracket.
    return [(first, first, expected), (last, last, expected)]


@dataclass(frozen=True)
class _Part:
    """The keys inside the bracket of a part of a tensor, in the order of their places.

    start: flat index of the part's first value. width: columns it is laid out in. columns: those looked at.
    places: of the keys, in the matrix of these columns.
    """

    tensor: int
    start: int
    width: int
    columns: Tensor
    places: Tensor
    keys: Tensor

    def place(self, number: int) -> int:
        """The flat index in the tensor of the key of that number."""
        row, column = divmod(int(self.places[number]), len(self.columns))
        return self.start + row * self.width + int(self.columns[column])


@dataclass
class _Found:
    """The result of a pass: the number of keys under the bracket and up to its end, and the parts with some inside."""

    under: int = 0
    upto: int = 0
    parts: list[_Part] = field(default_factory=list)
    complete: bool = True


def _probe(scores: Scores, first: int, last: int, rows: int, limit: int) -> _Found:
    """One pass over all keys; `complete` if no more than `limit` are inside, and then all of them are gathered."""
    found = _Found()
    # One piece of memory for each purpose: pieces made in every chunk would scatter over the heap.
    classes = sums = torch.empty(0)
    for index, begin, keys in _chunks(scores):
        if not classes.numel():
            classes = keys.new_empty(scores.chunk)
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
            # Results as integers: comparisons that give booleans are several times slower.
            torch.sum(torch.lt(matrix, first, out=compared), 0, dtype=keys.dtype, out=lower)
            torch.sum(torch.le(matrix, last, out=compared), 0, dtype=keys.dtype, out=inside)
            inside -= lower
            under, between = both.sum(1, dtype=keys.dtype).tolist()
            found.under += under
            found.upto += under + between
            found.complete = found.upto - found.under <= limit
            if between and found.complete:
                columns = inside.nonzero().view(-1)
                # Row by row is the order of flat indices: a tie among the gathered is cut as one among all would be.
                gathered = torch.gather(matrix, 1, columns.expand(height, -1)).view(-1)
                # The comparisons are summed up: their memory is free.
                places = _between(gathered, first, last, classes).nonzero().view(-1)
                found.parts.append(_Part(index, start, width, columns, places, gathered[places]))
    return found


def _between(keys: Tensor, first: int, last: int, room: Tensor) -> Tensor:
    """1 where a key is from `first` to `last`, else 0; in the memory of `room`, if that is as long."""
    within = torch.le(keys, last, out=room[: len(keys)])
    return within.sub_(torch.lt(keys, first, out=torch.empty_like(keys)))


def _within(scores: Scores, found: _Found, count: int) -> Boundary:
    """The cut of `scores` from that of the keys gathered, among which the one in question is."""
    # A key is the bits of its magnitude: read as a number again, it orders as before, divisors included.
    keys = torch.cat([part.keys for part in found.parts]).view(scores.dtype)
    inner = find_cut(Scores.of([keys]), count - found.under)
    number, left = 0, inner.place - 1
    while left >= len(found.parts[number].keys):
        left -= len(found.parts[number].keys)
        number += 1
    part = found.parts[number]
    return Boundary(inner.key, part.tensor, part.place(left) + 1)


def _place(scores: Scores, key: int, ties: int) -> Boundary:
    """The cut after the first `ties` keys equal to `key`."""
    for index, start, keys in _chunks(scores):
        equal = keys == key
        found = int(torch.count_nonzero(equal))
        if found >= ties:
            return Boundary(key, index, start + int(equal.nonzero()[ties - 1]) + 1)
        ties -= found
    raise AssertionError("scores changed between two readings")


def _partition(scores: Scores, count: int) -> Boundary:
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
    # The rank of the k-th key in the sample is binomial: variance s · p(1 − p) at p = k/n.
    margin = deviations * (len(keys) * share * (1 - share)) ** 0.5 + 1
    lower, upper = (min(len(keys), max(1, int(rank + side))) for side in (-margin, margin))
    first = int(keys.kthvalue(lower).values)
    # Nothing below `first` can be `last`: the second search is over the rest, whose ranks are so much lower.
    above = keys[keys >= first]
    last = int(above.kthvalue(upper - len(keys) + len(above)).values)
    inside = int(torch.count_nonzero(above <= last))
    return first, last, inside * total // len(keys)


def _rows(total: int, expected: int) -> int:
    """Values in a column if `expected` of `total` are inside: a power of two, as sizes of matrices are its multiples.

    Looking at a column costs about as much as at half a gathered value: least together at √(total / 2 expected).
    """
    best = math.sqrt(total / (2 * expected + 1))
    return min(ROWS, 1 << max(0, round(math.log2(best))))


def _chunks(scores: Scores) -> Iterator[tuple[int, int, Tensor]]:
    """All keys: (tensor, flat index of the first, keys) by chunks."""
    for index in range(len(scores)):
        for start, keys in scores.keys(index, scores[index]):
            yield index, start, keys
