"""job=index: embed data by an artifact or a model, and keep the vectors in a store that can be searched."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rcc.artifact.contents import checksum
from rcc.command_line import command_line
from rcc.data.splits import ROLES, Split, Splits
from rcc.engine.encoding import encoded_images, encoded_texts
from rcc.errors import Problems, UserError
from rcc.jobs.claim import claimed
from rcc.jobs.job import Job
from rcc.jobs.subjects import DENSE, Subject, one_subject
from rcc.models.adapter import Adapter
from rcc.models.transformers.dual import DualEncoder
from rcc.reporting.drawing import Terminal, say
from rcc.store import EmbeddingStore

ALL = "all"
DIGEST = "digest"
"""The field that tells whether an item is still what it was when it was embedded."""
BLOCK = 256
"""Items between two writes: what a kill loses at most."""
TOLD = 10.0
"""Seconds between two lines of progress."""


class Index(Job):
    """Embeds the items of `data=` that the store lacks, or has of another content, and writes them block by block.

    A run that was stopped is simply started again: what the store holds is not embedded anew. With `prune=true` ids
    that are not in the data any more are deleted.
    """

    subject: Subject

    def read(self, found: Problems) -> None:
        super().read(found)
        store = self.settings["store"]["path"]
        found.check(isinstance(store, str), "job=index needs a store to write: store.path=<directory>.")
        if isinstance(store, str):
            found.path("store.path", store)
        found.choice("split", self.settings["split"], (ALL, *ROLES))
        found.flag("prune", self.settings["prune"])
        found.whole("batch_size", self.settings["batch_size"], 1)
        self.refuse_checkpointing(found, gradients=False)
        with found.collecting():
            several = "job=index takes one artifact: vectors of two models cannot be compared."
            self.subject = one_subject(self.settings["artifact"], several)

    def run(self) -> None:
        """Embed and write; print what was done and how to search."""
        terminal, path = Terminal(highlight=False), Path(self.settings["store"]["path"])
        with claimed(self):
            splits = self.data()
            subject = self.subject
            model = subject.load(self)
            source = "" if subject.kind == DENSE else os.path.relpath(subject.name, path)
            what, kind = _embeds(model, splits)
            store = EmbeddingStore(path, kind=kind, model=checksum(model.module), source=source)
            known, items = {id: store.fields_of(id) or {} for id in store.ids()}, self._items(splits)
            names = [name for name, _, _ in items]
            due = [item for item in items if known.get(item[0], {}).get(DIGEST) != item[1].digests[item[2]].hex()]
            started = told = time.monotonic()
            for start in range(0, len(due), BLOCK):
                block = due[start : start + BLOCK]
                values = [split.fields[what][place] for _, split, place in block]
                encode = encoded_images if what == "images" else encoded_texts
                fields = [_fields(split, place, splits) for _, split, place in block]
                store.add([name for name, _, _ in block], encode(model, values, self.settings["batch_size"]), fields)
                if time.monotonic() - told > TOLD:
                    told, done = time.monotonic(), start + len(block)
                    speed = done / (told - started)
                    say(
                        terminal,
                        f"indexed {done} of {len(due)}, {speed:.1f} a second, {(len(due) - done) / speed:.0f} s left",
                    )
            gone = store.delete(sorted(set(known) - set(names))) if self.settings["prune"] else 0
            say(
                terminal,
                f"{path}: {len(due)} of {len(items)} {what} embedded, {len(items) - len(due)} were there unchanged"
                f"{f', {gone} deleted' if gone else ''}; {len(store):,} in all.",
            )
            said = self.overrides_of("model") if subject.kind == DENSE else []
            search = command_line("job=search", f"store.path={path}", "query=a text or a path of an image", *said)
            say(terminal, f"Search it: {search}")

    def _items(self, splits: Splits) -> list[tuple[str, Split, int]]:
        """(id, split, place) of each item that is asked for, see `_id`."""
        asked = self.settings["split"]
        chosen = [split for role, split in splits if asked in (ALL, role)]
        within = self.settings["data"].get("path")
        found = [
            (_id(split, place, None if within is None else Path(str(within))), split, place)
            for split in chosen
            for place in range(len(split))
        ]
        if not found:
            raise UserError(f"split={asked} holds no item.")
        return found


def _embeds(model: Adapter, splits: Splits) -> tuple[str, str]:
    """Which field of the data the model embeds, and the kind of the store.

    Raises:
        UserError: it reads none of them.
    """
    fields = splits.test.inputs
    both = isinstance(model, DualEncoder)
    if "images" in fields and "images" in model.reads:
        return "images", "clip" if both else "vision"
    if "texts" in fields and "texts" in model.reads:
        return "texts", "clip" if both else "text"
    raise UserError(
        f"the model '{model.name}' reads {', '.join(model.reads)}, and the data have {', '.join(fields)}: there is"
        " nothing to index."
    )


def _id(split: Split, place: int, within: Path | None) -> str:
    """A name for an item that is the same on every machine: its path in the data's folder, else its split and place."""
    name = split.input.name(place)
    if within is not None and Path(name).is_absolute() == within.is_absolute() and Path(name).is_relative_to(within):
        return Path(name).relative_to(within).as_posix()
    named = not name.startswith(("image ", "text ")) and not Path(name).is_absolute()
    return name if named else f"{split.name}/{place}"


def _fields(split: Split, place: int, splits: Splits) -> dict[str, Any]:
    """What is kept of an item beside its vector: digest, split, and label and caption where it has them."""
    label = None if split.labels is None else int(split.labels[place])
    captions = split.captions
    return {
        DIGEST: split.digests[place].hex(),
        "split": split.name,
        "label": None if label is None or not splits.class_names else splits.class_names[label],
        "caption": captions[place][0] if captions else None,
    }
