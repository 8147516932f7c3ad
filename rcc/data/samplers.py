"""Order the items of a training epoch: rare classes as often as common ones, or texts of like length together.

Each order follows from its seed and epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler, WeightedRandomSampler

from rcc.errors import Problems


def balanced_sampler(labels: NDArray[np.int64], seed: int, epoch: int, count: int | None = None) -> Sampler[int]:
    """`count` indices, with replacement, each class as likely as any other: an item has the weight N / (items of its
    class).

    Args:
        labels: (N,), of every item.
        count: N by default.

    Raises:
        UserError: no label, or a count below 1.
    """
    problems = Problems("balanced sampler")
    problems.check(len(labels) > 0, "there are no labels.")
    if count is not None:
        problems.whole("count", count, 1)
    problems.done()
    weights = len(labels) / np.bincount(labels)[labels]
    size = len(labels) if count is None else count
    return WeightedRandomSampler(weights.tolist(), size, generator=_generator(seed, epoch))


def length_grouped_sampler(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> Sampler[int]:
    """Every index once, in a random order in which each run of `batch_size` has about equal lengths, so that little
    padding is computed. The longest item comes first: what does not fit into memory shows at once.

    Raises:
        UserError: no item, or a batch size below 1.
    """
    from transformers.trainer_pt_utils import LengthGroupedSampler

    problems = Problems("length-grouped sampler")
    problems.check(len(lengths) > 0, "there are no lengths.")
    problems.whole("batch_size", batch_size, 1)
    problems.done()
    sampler: Sampler[int] = LengthGroupedSampler(batch_size, lengths=list(lengths), generator=_generator(seed, epoch))
    return sampler


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
