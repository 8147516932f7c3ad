"""Order the images of a training epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rcc.data.samplers import balanced_sampler, length_grouped_sampler
from rcc.data.splits import Split
from rcc.errors import Problems

SAMPLERS = ("shuffled", "balanced", "length_grouped")
Order = Callable[[int, torch.Generator], Tensor]


def order_of(sampler: str, split: Split, batch_size: int, seed: int) -> Order:
    """From an epoch's number and its generator to the indices (N,) of the epoch.

    'shuffled' takes each image once; 'balanced' draws with replacement, each class as likely as any other;
    'length_grouped' takes each once, images of captions of like length together, so that little padding is computed.

    Raises:
        UserError: an unknown sampler, or one that needs labels or captions which the split lacks.
    """
    problems = Problems("training")
    problems.choice("sampler", sampler, SAMPLERS)
    problems.check(
        sampler != "balanced" or split.labels is not None,
        f"sampler=balanced needs classes, and split '{split.name}' has no labels. Take sampler=shuffled.",
    )
    problems.check(
        sampler != "length_grouped" or bool(split.captions),
        f"sampler=length_grouped goes by captions, and split '{split.name}' has none. Take sampler=shuffled.",
    )
    problems.done()
    if sampler == "balanced" and split.labels is not None:
        labels = split.labels
        return lambda epoch, generator: torch.tensor(list(balanced_sampler(labels, seed, epoch)))
    if sampler == "length_grouped":
        lengths = [max(len(text) for text in written) for written in split.captions]
        return lambda epoch, generator: torch.tensor(list(length_grouped_sampler(lengths, batch_size, seed, epoch)))
    return lambda epoch, generator: torch.randperm(len(split), generator=generator)
