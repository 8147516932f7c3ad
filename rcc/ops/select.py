"""Select the k smallest magnitudes over a list of tensors exactly, and prune by it, in a few passes.

The order of two values is the order of (magnitude, tensor, flat index), so that ties never make a count wrong
and the same input always gives the same choice. NaN ranks above infinity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcc.ops.cut import Boundary, find_cut
from rcc.ops.scores import KEYS, Scores


@dataclass(frozen=True)
class Threshold:
    """The selection from one tensor whose values are their own scores: a mask that takes no memory.

    Every magnitude whose key (see `rcc.ops.scores`, in the bits of `dtype`) is below `key` is selected, and
    those equal to it at flat indices below `ties_before`.
    """

    key: int
    ties_before: int
    dtype: torch.dtype

    def zero_(self, tensor: Tensor) -> Tensor:
        """Write +0.0 over the values of `tensor` that are selected, in its own memory; the rest stays as it is."""
        flat = tensor.detach().reshape(-1)
        # Keys are integers: those below `key` are those up to key − 1.
        self._zero_up_to(flat[: self.ties_before], self.key)
        self._zero_up_to(flat[self.ties_before :], self.key - 1)
        if not tensor.is_contiguous():  # then `flat` may be a copy
            tensor.detach().copy_(flat.view(tensor.shape))
        return tensor

    def _zero_up_to(self, values: Tensor, key: int) -> None:
        if key < 0 or not values.numel():
            return
        bound = torch.tensor([key], dtype=KEYS[self.dtype]).view(self.dtype)
        # A cut among NaNs cannot be a threshold of values, since no comparison with NaN holds: their keys do compare.
        if bool(bound.isnan()):
            keys = Scores([values.numel()], lambda _: values, self.dtype).key(0, values)
            values.masked_fill_(keys <= key, 0.0)
            return
        narrow = bound.to(values.dtype)
        if bool(narrow > bound):  # rounded up: the next magnitude below, which is the largest within the bound
            narrow = (narrow.view(KEYS[values.dtype]) - 1).view(values.dtype)
        # One pass and no mask: +0.0 where |x| is at most the bound, of either sign; all else, NaN too, as it is.
        torch.hardshrink(values, float(narrow), out=values)


def thresholds_of_smallest(values: Sequence[Tensor], count: int) -> list[Threshold]:
    """The selection of `select_smallest` from values that are their own scores, as a threshold for each tensor."""
    scores = Scores.of(values)
    boundary = _boundary(scores, count)
    return [
        Threshold(boundary.key, boundary.ties_before(index, size), scores.dtype)
        for index, size in enumerate(scores.sizes)
    ]


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
    return _masks(scores, _boundary(scores, count))


def count_selected(scores: Sequence[Tensor], count: int) -> list[int]:
    """The number of the `count` smallest magnitudes that each tensor holds, no masks made; in all exactly `count`."""
    scores = Scores.of(scores)
    boundary = _boundary(scores, count)
    counts = []
    for index, size in enumerate(scores.sizes):
        found = 0
        for start, keys in scores.keys(index, scores[index]):
            ties = max(0, boundary.ties_before(index, size) - start)
            # Written over the keys: as integers both are several times as fast as by way of booleans.
            keys[:ties].le_(boundary.key)
            keys[ties:].lt_(boundary.key)
            found += int(torch.count_nonzero(keys))
        counts.append(found)
    return counts


def random_scores(values: Tensor, seed: int) -> Tensor:
    """Uniform scores in (0, 1], the same for the same seed and shape; 0 where a value is zero."""
    # On the CPU whatever the device is, since each has its own generator. 1 − [0, 1) is never 0, which means gone.
    draws = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed))
    return draws.neg_().add_(1).to(values.device).masked_fill_(values == 0, 0.0)


def _boundary(scores: Scores, count: int) -> Boundary:
    if not 0 <= count <= scores.numel:
        raise ValueError(f"cannot select {count} of {scores.numel} values")
    return find_cut(scores, count)


def _masks(scores: Scores, boundary: Boundary) -> Iterator[Tensor]:
    for index, size in enumerate(scores.sizes):
        score = scores[index]
        mask = torch.empty(score.shape, dtype=torch.bool, device=score.device)
        flat = mask.view(-1)
        for start, keys in scores.keys(index, score):
            part = flat[start : start + keys.numel()]
            ties = max(0, boundary.ties_before(index, size) - start)
            torch.le(keys[:ties], boundary.key, out=part[:ties])
            torch.lt(keys[ties:], boundary.key, out=part[ties:])
        yield mask
