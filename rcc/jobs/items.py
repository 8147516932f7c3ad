"""Embed the items of data block by block, each with its id and its fields: what job=index and job=embed share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rcc.data.splits import ROLES, Split, Splits
from rcc.engine.encoding import Embeddings, encoded_images, encoded_sounds, encoded_texts
from rcc.engine.vision import image_outputs, image_pool
from rcc.errors import UserError
from rcc.models.abilities import prompt_of
from rcc.models.adapter import Adapter
from rcc.models.transformers.dual import DualEncoder
from rcc.models.transformers.text_encoder import SentenceEncoder
from rcc.reporting.drawing import Terminal, say

ALL = "all"
PARTS = (ALL, *ROLES)
"""What `split=` may be."""
DIGEST = "digest"
"""The field that tells whether an item is still what it was when it was embedded."""
BLOCK = 256
"""Items between two writes: what a kill loses at most."""
TOLD = 10.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Embedder:
    """How a model embeds a field of the data.

    Attributes:
        field: 'images', 'texts' or 'audio'.
        kind: of the vectors, see `rcc.store.schema.KINDS`.
        encode: (N, D) embeddings of values of the field, so many at a time.
    """

    field: str
    kind: str
    encode: Callable[[Sequence[Any], int], Embeddings]


@dataclass(frozen=True)
class Item:
    """One item of the data: its id, and its place in a split."""

    id: str
    split: Split
    place: int

    @property
    def digest(self) -> str:
        """The checksum of its content."""
        return self.split.digests[self.place].hex()

    def fields(self, class_names: Sequence[str]) -> dict[str, Any]:
        """What is kept of it beside its vector: digest, split, and label, caption, title and text where it has them,
        else None."""
        label = None if self.split.labels is None else int(self.split.labels[self.place])
        captions, titles = self.split.captions, self.split.fields.get("titles")
        return {
            DIGEST: self.digest,
            "split": self.split.name,
            "label": None if label is None or not class_names else class_names[label],
            "caption": captions[self.place][0] if captions else None,
            "title": None if titles is None else titles[self.place] or None,
            "text": self.split.texts[self.place] if self.split.inputs == ("texts",) else None,
        }


def embedder_of(model: Adapter, splits: Splits) -> Embedder:
    """How the model embeds the data: images before texts, where it reads both.

    Raises:
        UserError: it reads none of the data's fields, or embeds nothing.
    """
    fields = splits.test.inputs
    both = isinstance(model, DualEncoder)
    if "images" in fields and "images" in model.reads:
        image_pool(model)
        encode = partial(encoded_images, model, outputs=image_outputs(model))
        return Embedder("images", "clip" if both else "vision", encode)
    if "texts" in fields and "texts" in model.reads:
        encode = partial(encoded_texts, model, prompt=prompt_of(model, "document"))
        return Embedder("texts", "clip" if both else "text", encode)
    if "audio" in fields and "audio" in model.reads:
        return Embedder("audio", "audio", partial(encoded_sounds, model))
    raise UserError(
        f"the model '{model.name}' reads {', '.join(model.reads)}, and the data have {', '.join(fields)}: there is"
        " nothing to embed."
    )


def items_of(splits: Splits, asked: str, within: str | None) -> list[Item]:
    """The items of the splits that are asked for; of data with a corpus all its documents.

    Args:
        asked: one of `PARTS`.
        within: the data's folder; an id is an item's path from there, where it has one.

    Raises:
        UserError: there are none.
    """
    folder = None if within is None else Path(within)
    chosen = [split for role, split in splits if asked in (ALL, role)]
    if splits.corpus is not None and asked == ALL:  # queries are asked of it, and its documents are in it once
        chosen = [splits.corpus]
    found = [Item(_id(split, place, folder), split, place) for split in chosen for place in range(len(split))]
    if not found:
        raise UserError(f"split={asked} holds no item.")
    return found


def cut_note(model: Adapter, items: Sequence[Item]) -> str:
    """A sentence on the texts that are longer than the model reads; '' where none is, or the model does not say."""
    if not isinstance(model, SentenceEncoder) or not items:
        return ""
    cut = model.cut([item.split.texts[item.place] for item in items], prompt_of(model, "document"))
    return f"{cut} of {len(items)} texts have more than {model.longest} tokens and were cut there." if cut else ""


def in_blocks(
    items: Sequence[Item], embedder: Embedder, batch: int, terminal: Terminal
) -> Iterator[tuple[Sequence[Item], Embeddings]]:
    """Blocks of the items with their embeddings; now and then a line says how far it is.

    Args:
        batch: items in one forward pass.
    """
    started = told = time.monotonic()
    for start in range(0, len(items), BLOCK):
        block = items[start : start + BLOCK]
        yield block, embedder.encode([item.split.fields[embedder.field][item.place] for item in block], batch)
        if time.monotonic() - told > TOLD:
            told, done = time.monotonic(), start + len(block)
            speed = done / (told - started)
            left = (len(items) - done) / speed
            say(terminal, f"embedded {done} of {len(items)}, {speed:.1f} a second, {left:.0f} s left")


def _id(split: Split, place: int, within: Path | None) -> str:
    """A name for an item that is the same on every machine: its path in the data's folder, else its split and place."""
    name = split.input.name(place)
    if within is not None and Path(name).is_absolute() == within.is_absolute() and Path(name).is_relative_to(within):
        return Path(name).relative_to(within).as_posix()
    named = not name.startswith(("image ", "text ", "sound ")) and not Path(name).is_absolute()
    return name if named else f"{split.name}/{place}"
