"""job=embed: embed data by an artifact or a model, and write the vectors as one Parquet file."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from time import perf_counter

from rcc.artifact.contents import checksum
from rcc.atomic import new_file, replaced
from rcc.engine.parquet import EmbeddingSchema, EmbeddingWriter
from rcc.errors import Problems
from rcc.jobs.claim import claimed
from rcc.jobs.items import PARTS, embedder_of, in_blocks, items_of
from rcc.jobs.job import Job
from rcc.jobs.subjects import Subject, one_subject
from rcc.reporting.drawing import Terminal, say
from rcc.reporting.formats import bytes_text

END = ".parquet"
LEVELS = (1, 22)
"""Of zstandard."""


class Embed(Job):
    """Embeds the items of `data=` and writes ids, vectors and fields to `out=`, complete or not at all."""

    subject: Subject

    def read(self, found: Problems) -> None:
        super().read(found)
        settings = self.settings
        out = settings["out"]
        if found.check(isinstance(out, str), f"job=embed needs a file to write: out=embeddings{END}."):
            found.path("out", out)
            found.check(str(out).endswith(END), f"out={out}: what is written is Parquet; call it …{END}.")
        found.flag("overwrite", settings["overwrite"])
        if isinstance(out, str) and settings["overwrite"] is not True:
            found.check(
                not Path(out).exists(), f"out={out} exists already. Choose another, or replace it by overwrite=true."
            )
        found.choice("split", settings["split"], PARTS)
        found.whole("batch_size", settings["batch_size"], 1)
        found.whole("compression_level", settings["compression_level"], *LEVELS)
        self.refuse_checkpointing(found, gradients=False)
        with found.collecting():
            several = "job=embed takes one artifact: vectors of two models cannot be compared."
            self.subject = one_subject(settings["artifact"], several)

    def run(self) -> None:
        """Embed and write; print what was written."""
        terminal, settings = Terminal(highlight=False), self.settings
        out, level = Path(settings["out"]), settings["compression_level"]
        with claimed(self):
            splits = self.data()
            model = self.subject.load(self)
            embedder = embedder_of(model, splits)
            items = items_of(splits, settings["split"], settings["data"].get("path"))
            started = perf_counter()
            blocks = in_blocks(items, embedder, settings["batch_size"], terminal)
            with (replaced if settings["overwrite"] else new_file)(out) as partial:
                first = next(blocks)
                width = first[1].shape[1]
                schema = EmbeddingSchema(embedder.kind, width, checksum(model.module), self.subject.name)
                with EmbeddingWriter(partial, schema, len(items), level=level) as writer:
                    for block, vectors in chain([first], blocks):
                        fields = [item.fields(splits.class_names) for item in block]
                        writer.write([item.id for item in block], vectors, fields)
            seconds = perf_counter() - started
            say(
                terminal,
                f"{out}: {len(items):,} {embedder.field} in {width} dimensions ({schema.kind}),"
                f" {bytes_text(out.stat().st_size)}, written in {seconds:.1f} s.",
            )
