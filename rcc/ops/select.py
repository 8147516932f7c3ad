"""Exact selection of the k smallest magnitudes over a list of tensors, in a few passes and little memory.

The order of two values is the order of (magnitude, tensor, flat index), so that ties never make a count wrong
and the same input always gives the same choice. NaN ranks above infinity.

A floating-point number without its sign bit, read as an integer (its *key*), orders as its magnitude does.
So the k-th smallest key is searched for among integers: a random sample brackets it, counting passes over
cache-sized chunks make the bracket exact, and only the few values inside the bracket are ever gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Values a pass works on at a time: their keys stay in the processor's cache."""
SAMPLE = 1 << 15
"""Values drawn to bracket the k-th key; the bracket then holds 1 to 2 % of all values."""
GATHER = 1 << 16
"""A bracket of at most this many values, or of 1/16 of all, is gathered and partitioned exactly."""
DEVIATIONS = 4
"""Half width of the bracket in standard deviations of the sampled rank; a miss costs passes, no more."""

_KEYS = {torch.float32: torch.int32, torch.float64: torch.int64}
_LARGEST = {dtype: torch.iinfo(keys).max for dtype, keys in _KEYS.items()}


class Scores(Sequence[Tensor]):
    """Score tensors made anew at each access, so that one at a time is in memory.

    Args:
        sizes: the number of values of each.
        make: index -> tensor of any shape and float dtype; the same values whenever it is asked.
        dtype: what magnitudes are compared in, float32 or float64; no score may be wider.
        divisors: a positive number for each tensor, by which its values are divided (in `dtype`, chunk by
            chunk) before they are compared.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        make: Callable[[int], Tensor],
        dtype: torch.dtype = torch.float32,
        divisors: Sequence[float] | None = None,
    ) -> None:
        self.sizes = tuple(sizes)
        self.dtype = dtype
        self._make = make
        self._divisors = divisors

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Scores:
        """Scores that are tensors already: `tensors` itself where it is lazy, else a view of it."""
        if isinstance(tensors, Scores):
            return tensors
        wide = any(tensor.dtype == torch.float64 for tensor in tensors)
        return cls(
            [tensor.numel() for tensor in tensors],
            lambda index: tensors[index],
            torch.float64 if wide else torch.float32,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return self._make(index).detach()

    @property
    def numel(self) -> int:
        return sum(self.sizes)

    def keys(self, index: int) -> Iterator[Tensor]:
        """The keys of one tensor, flat, in chunks."""
        for chunk in self[index].reshape(-1).split(CHUNK):
            yield self.key(index, chunk)

    def key(self, index: int, values: Tensor) -> Tensor:
        """Integers that order as the magnitudes of `values`, which are of tensor `index`; those of zero are 0."""
        values = values.to(self.dtype)
        if self._divisors is not None:
            values = values / self._divisors[index]
        return values.view(_KEYS[self.dtype]) & _LARGEST[self.dtype]


@dataclass(frozen=True)
class Cut:
    """Where the selection ends: every key below `key` is in, and the first `ties` of those equal to it."""

    key: int
    ties: int


def select_smallest(scores: Sequence[Tensor], count: int) -> Iterator[Tensor]:
    """Masks, one for each score tensor and of its shape, true on exactly `count` smallest magnitudes in all.

    The masks come lazily, so that no more than one need exist: a tensor may be changed once its mask was
    yielded, and not before. Scores may be the weights themselves; of two equal magnitudes the one in the
    earlier tensor, then at the lower flat index, is taken first.

    Args:
        scores: tensors of any shapes on one device, float16 to float64, mixed as they come; or `Scores`.
        count: how many to select, 0 to the number of values.

    Raises:
        ValueError: `count` is out of range.
    """
    scores = Scores.of(scores)
    if not 0 <= count <= scores.numel:
        raise ValueError(f"cannot select {count} of {scores.numel} values")
    return _masks(scores, find_cut(scores, count))


def count_selected(scores: Sequence[Tensor], count: int) -> list[int]:
    """How many of the `count` smallest magnitudes each tensor holds; their sum is `count` exactly."""
    return [int(torch.count_nonzero(mask)) for mask in select_smallest(scores, count)]


def random_scores(values: Tensor, seed: int) -> Tensor:
    """Uniform scores in (0, 1], the same for the same seed and shape; 0 where a value is zero."""
    draws = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed))
    return draws.neg_().add_(1).to(values.device).masked_fill_(values == 0, 0.0)


def find_cut(scores: Scores, count: int) -> Cut:
    """The cut that selects exactly `count` values of `scores`.

    Cost: one counting pass for values that spread, one more for each halving of a bracket that turns out to
    hold too many (half the values equal, say), and never more than a key has bits; extra memory for 1/16 of
    the values at most.
    """
    if count == 0:
        return Cut(0, 0)
    limit = max(GATHER, scores.numel // 16)
    low, high = 0, _LARGEST[scores.dtype]
    below, upto = 0, scores.numel
    first, last = (low, high) if upto <= limit else _bracket(scores, count)
    # Invariant: `below` keys lie under low, `upto` at or under high, and below < count <= upto.
    while low < high:
        under, reached, inside = _probe(scores, first, last, limit)
        if count <= under:
            high, upto = first - 1, under
        elif count > reached:
            low, below = last + 1, reached
        else:
            low, high, below, upto = first, last, under, reached
            if inside is not None:
                key = int(inside.kthvalue(count - below).values)
                return Cut(key, count - below - int(torch.count_nonzero(inside < key)))
        first, last = (low, high) if upto - below <= limit else (low, low + (high - low) // 2)
    return Cut(low, count - below)


def _bracket(scores: Scores, count: int) -> tuple[int, int]:
    """Two keys that very likely have the `count`-th smallest between them, from a random sample.

    Random positions, since a fixed stride can run along the columns of a matrix. The seed is fixed: the
    sample decides how fast the cut is found, never where it is.
    """
    generator = torch.Generator().manual_seed(0)
    total, drawn = scores.numel, []
    for index, size in enumerate(scores.sizes):
        draws = -(-SAMPLE * size // total)
        if draws:
            positions = torch.randint(size, (draws,), generator=generator)
            flat = scores[index].reshape(-1)
            drawn.append(scores.key(index, flat[positions.to(flat.device)]))
    keys = torch.cat(drawn).sort().values
    share = count / total
    rank = share * len(keys)
    margin = DEVIATIONS * (len(keys) * share * (1 - share)) ** 0.5 + 1
    first, last = (min(len(keys) - 1, max(0, int(rank + side))) for side in (-margin, margin))
    return int(keys[first]), int(keys[last])


def _probe(scores: Scores, first: int, last: int, limit: int) -> tuple[int, int, Tensor | None]:
    """In one pass: the number of keys under `first`, of those at or under `last`, and the keys between, both
    ends included, or None where these are more than `limit`."""
    under = reached = 0
    # One buffer for what is found: pieces kept among the passing temporaries would scatter over the heap.
    inside: Tensor | None = None
    for index in range(len(scores)):
        for keys in scores.keys(index):
            if inside is None:
                inside = torch.empty(min(limit, scores.numel), dtype=keys.dtype, device=keys.device)
            lower, upper = keys < first, keys <= last
            start = reached - under
            under += int(torch.count_nonzero(lower))
            reached += int(torch.count_nonzero(upper))
            if reached - under <= limit:
                inside[start : reached - under] = keys[upper.logical_xor_(lower)]
    assert inside is not None
    return under, reached, inside[: reached - under] if reached - under <= limit else None


def _masks(scores: Scores, cut: Cut) -> Iterator[Tensor]:
    ties = cut.ties
    for index in range(len(scores)):
        score = scores[index]
        mask = torch.empty(score.numel(), dtype=torch.bool, device=score.device)
        for chunk, part in zip(score.reshape(-1).split(CHUNK), mask.split(CHUNK), strict=True):
            keys = scores.key(index, chunk)
            torch.lt(keys, cut.key, out=part)
            if ties:
                equal = (keys == cut.key).nonzero().view(-1)[:ties]
                part[equal] = True
                ties -= len(equal)
        yield mask.view(score.shape)
