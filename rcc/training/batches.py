"""Give the training split as batches, epoch after epoch, to what learns from a dense model or from labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rcc.data.loading import readable_fields
from rcc.data.splits import Split, Splits
from rcc.errors import Problems
from rcc.layers.model import Batch
from rcc.learning.affine import Affine
from rcc.learning.augmentation import AFFINE, AUGMENTATIONS, UNCHANGED
from rcc.learning.cropping import Crop
from rcc.models.adapter import Adapter
from rcc.training.pairs import Pairs, pairs_of

BATCH_SIZE = 64
PIXELS = "pixel_values"
CACHED = 512_000_000
"""Bytes that prepared items may take to be kept; above it each epoch prepares them anew."""


@dataclass(frozen=True)
class TrainingSplit:
    """Items of `splits.train` as an adapter prepares them, in an order of each epoch's own.

    Images are paired with texts where the model reads both: a caption, or a prompt of the class, drawn anew each time.
    """

    adapter: Adapter
    splits: Splits

    def __call__(self, batch_size: int | None, augmentation: str, seed: int) -> SplitEpochs:
        """Batches of that size, images changed at random by that augmentation.

        Raises:
            UserError: there are too few items, or something cannot be changed or paired.
        """
        split = self.splits.train
        size = min(BATCH_SIZE, max(1, len(split))) if batch_size is None else batch_size
        problems = Problems("training")
        problems.choice("augmentation", augmentation, (UNCHANGED, *AUGMENTATIONS))
        problems.check(len(split) > 0, "the data has no training split; give it one (data.train=), or other data.")
        if len(split):
            problems.check(
                size <= len(split), f"batch_size is {size} and the training split has {len(split)} {split.noun}."
            )
        problems.done()
        pairs = pairs_of(self.adapter, split, self.splits) if self._is_paired(split) else None
        problems.check(
            pairs is None or size > 1,
            "batch_size is 1: images and texts are compared within a batch, which takes two or more pairs.",
        )
        fields = [name for name in readable_fields(self.adapter, split) if pairs is None or name != "texts"]
        problems.check(
            augmentation == UNCHANGED or "images" in fields,
            f"augmentation={augmentation} changes images, and the model reads {', '.join(fields)}. Leave it at"
            f" {UNCHANGED}.",
        )
        problems.done()
        return SplitEpochs(self.adapter, split, tuple(fields), pairs, size, augmentation, seed)

    def _is_paired(self, split: Split) -> bool:
        described = bool(split.captions) or (split.labels is not None and bool(self.splits.templates))
        return {"images", "texts"} <= set(self.adapter.reads) and "images" in split.fields and described


class SplitEpochs:
    """The batches of a split: every epoch goes through it once, in another order, the last incomplete batch left out.

    Args:
        fields: what is prepared of each item.
        pairs: draws the texts that go with the images; None where the model reads what `fields` name.
    """

    def __init__(
        self,
        adapter: Adapter,
        split: Split,
        fields: tuple[str, ...],
        pairs: Pairs | None,
        batch_size: int,
        augmentation: str,
        seed: int,
    ) -> None:
        self.adapter, self.split, self.fields, self.pairs = adapter, split, fields, pairs
        self.batch_size, self.seed = batch_size, seed
        self.steps = len(split) // batch_size
        self._change = partial(_changed, augmentation=augmentation) if augmentation != UNCHANGED else None
        self._kept: dict[str, Tensor] | None = None

    def __call__(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(len(self.split), generator=generator)
        for start in range(0, self.steps * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = self._prepared(chosen)
            if self._change is not None:
                batch[PIXELS] = self._change(batch[PIXELS], generator, black=self._black())
            if self.pairs is not None:
                batch.update(self.pairs(chosen, generator))
            elif "labels" in self.split.fields:
                labels = np.asarray([self.split.fields["labels"][index] for index in chosen.tolist()])
                batch["labels"] = torch.from_numpy(labels).to(self.adapter.device)
            yield batch

    def _prepared(self, chosen: Tensor) -> Batch:
        """The items `chosen` (B,) as the adapter prepares them, from memory where all have room there."""
        if self._kept is None:
            self._kept = self._all_prepared() if self._has_room(chosen[:1]) else {}
        if self._kept:
            return {name: values[chosen.to(values.device)] for name, values in self._kept.items()}
        return self.adapter.prepare(**self.split.items(chosen.tolist(), self.fields))

    def _has_room(self, one: Tensor) -> bool:
        """Whether all items may be kept: those of one shape, images that is, as texts are padded to their batch."""
        if self.fields != ("images",):
            return False
        item = self.adapter.prepare(**self.split.items(one.tolist(), self.fields))
        return len(self.split) * sum(values.nbytes for values in item.values()) <= CACHED

    def _all_prepared(self) -> dict[str, Tensor]:
        parts = [
            self.adapter.prepare(
                **self.split.items(range(start, min(start + BATCH_SIZE, len(self.split))), self.fields)
            )
            for start in range(0, len(self.split), BATCH_SIZE)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _black(self) -> Tensor:
        """(3,), what the adapter makes of black."""
        image = np.zeros((32, 32, 3), np.uint8)
        return self.adapter.prepare(images=[image])[PIXELS][0, :, 0, 0]


def _changed(pixels: Tensor, generator: torch.Generator, augmentation: str, black: Tensor) -> Tensor:
    if augmentation == AFFINE:
        return Affine()(pixels, generator, background=black)
    return Crop()(pixels, generator, side=pixels.shape[-1])
