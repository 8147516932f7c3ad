"""job=index: embed data by an artifact or a model, and keep the vectors in a store that can be searched."""

from __future__ import annotations

import os
from pathlib import Path

from rcc.artifact.contents import checksum
from rcc.command_line import command_line
from rcc.errors import Problems, UserError
from rcc.jobs.claim import claimed
from rcc.jobs.items import DIGEST, PARTS, cut_note, embedder_of, in_blocks, items_of
from rcc.jobs.job import Job
from rcc.jobs.subjects import DENSE, Subject, one_subject
from rcc.reporting.drawing import Terminal, say
from rcc.store import EmbeddingStore
from rcc.store.lists import LEAST_ROWS, check_installed

FAISS = "faiss"
"""The index of a store: lists about centroids that faiss finds."""
ASKED = {"images": "a text or a path of an image", "texts": "a text", "audio": "a path of a sound"}
"""What a store of each field is searched by."""


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
        found.choice("split", self.settings["split"], PARTS)
        index = self.settings["store"]["index"]
        if index is not None and found.choice("store.index", index, (FAISS,)):
            with found.collecting():
                check_installed()
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
            embedder = embedder_of(model, splits)
            store = EmbeddingStore(path, kind=embedder.kind, model=checksum(model.module), source=source)
            known = {id: store.fields_of(id) or {} for id in store.ids()}
            items = items_of(splits, self.settings["split"], self.settings["data"].get("path"))
            index = self.settings["store"]["index"]
            if index and (rows := len(known.keys() | {item.id for item in items})) < LEAST_ROWS:
                raise UserError(
                    f"store.index={index} has an effect from {LEAST_ROWS:,} rows on, and there will be {rows:,}: below,"
                    " every row is compared in milliseconds. Leave it out."
                )
            due = [item for item in items if known.get(item.id, {}).get(DIGEST) != item.digest]
            for block, vectors in in_blocks(due, embedder, self.settings["batch_size"], terminal):
                store.add([item.id for item in block], vectors, [item.fields(splits.class_names) for item in block])
            gone = 0
            if self.settings["prune"]:
                gone = store.delete(sorted(set(known) - {item.id for item in items}))
            say(
                terminal,
                f"{path}: {len(due)} of {len(items)} {embedder.field} embedded, {len(items) - len(due)} were there"
                f" unchanged{f', {gone} deleted' if gone else ''}; {len(store):,} in all.",
            )
            if note := cut_note(model, due):
                say(terminal, note)
            if index:
                lists = store.build_lists()
                say(terminal, f"Sorted into {lists:,} lists: search by method=lists.")
            said = self.overrides_of("model") if subject.kind == DENSE else []
            search = command_line("job=search", f"store.path={path}", f"query={ASKED[embedder.field]}", *said)
            say(terminal, f"Search it: {search}")
