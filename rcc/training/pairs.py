"""Pair each image of an epoch with a text: a prompt of its class, or one of the captions that people wrote."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.classes.zero_shot import prompts
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter


class Pairs(Protocol):
    """Draws a text for each chosen image."""

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        """The tokens of one text for each of the images `chosen` (B,), and `labels` (B,): pairs of one label match
        each other."""
        ...


class Prompts:
    """A template, drawn anew each time, filled with the name of the image's class. Images of a class match."""

    def __init__(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        assert split.labels is not None
        self.labels = torch.from_numpy(split.labels).to(adapter.device)
        self.templates = len(splits.templates)
        self.tokens = adapter.prepare(texts=prompts(splits.class_names, splits.templates))

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        labels = self.labels[chosen.to(self.labels.device)]
        template = torch.randint(self.templates, (len(chosen),), generator=generator).to(labels.device)
        text = {key: tokens[labels * self.templates + template] for key, tokens in self.tokens.items()}
        return {"labels": labels, **text}


class Captions:
    """One of the image's captions, drawn anew each time. A pair matches itself and those with the same caption."""

    def __init__(self, adapter: Adapter, split: Split) -> None:
        self.adapter, self.captions = adapter, split.captions
        known: dict[str, int] = {}
        self.groups = [[known.setdefault(text, len(known)) for text in written] for written in split.captions]

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        places = torch.rand(len(chosen), generator=generator, dtype=torch.float64).tolist()
        drawn = [
            (image, int(place * len(self.captions[image])))
            for image, place in zip(chosen.tolist(), places, strict=True)
        ]
        groups = np.array([self.groups[image][caption] for image, caption in drawn])
        text = self.adapter.prepare(texts=[self.captions[image][caption] for image, caption in drawn])
        return {"labels": torch.from_numpy(groups).to(self.adapter.device), **text}


def pairs_of(adapter: Adapter, split: Split, splits: Splits) -> Pairs:
    """Captions where the split has any, else prompts.

    Raises:
        UserError: it has neither captions nor labels.
    """
    if split.captions:
        return Captions(adapter, split)
    if split.labels is not None and splits.templates:
        return Prompts(adapter, split, splits)
    raise UserError(
        f"training: split '{split.name}' has neither captions nor labels with templates, so there is nothing to pair"
        " its images with. Take data that has either."
    )
