"""job=search: find what a store holds nearest to a text, an image, a sound, or weighed texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rcc.artifact.contents import checksum
from rcc.engine.encoding import Embeddings, encoded_images, encoded_sounds, encoded_texts
from rcc.engine.opening import holds_model
from rcc.engine.queries import Query, read_query
from rcc.engine.vision import image_outputs
from rcc.errors import Problems, UserError
from rcc.jobs.job import Job
from rcc.jobs.subjects import one_subject
from rcc.models.abilities import prompt_of
from rcc.models.adapter import Adapter
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.tables import Table
from rcc.store import EmbeddingStore, Match
from rcc.store.search import EXACT, METHODS

ONE = "job=search takes one artifact: that which made the store."
HIDDEN = ("digest",)
"""Fields that say nothing to a reader."""
WIDEST = 60
"""Characters of a field that are shown."""


class Search(Job):
    """Embeds the query by the model that made the store, known by its checksum, and prints the nearest rows."""

    store: EmbeddingStore
    query: Query

    def read(self, found: Problems) -> None:
        super().read(found)
        path, query = self.settings["store"]["path"], self.settings["query"]
        found.check(isinstance(path, str), "job=search needs a store: store.path=<directory>, as job=index wrote it.")
        found.check(query is not None, "job=search needs a query: query='a dog on grass', or query=photo.jpg.")
        found.whole("top_k", self.settings["top_k"], 1)
        found.choice("method", self.settings["method"], METHODS)
        if self.settings["candidates"] is not None:
            found.whole("candidates", self.settings["candidates"], 1)
            found.check(
                self.settings["method"] != EXACT, "candidates has no effect with method=exact: all are compared."
            )
        found.check(
            self.settings["dry_run"] is True, "dry_run=false has no effect: job=search writes nothing. Leave it out."
        )
        self.refuse_checkpointing(found, gradients=False)
        with found.collecting():
            one_subject(self.settings["artifact"], ONE)
        with found.collecting():
            if isinstance(path, str) and found.path("store.path", path):
                self.store = EmbeddingStore(path)
                _ = self.store.manifest  # one that is not there is told before a model is loaded
        with found.collecting():
            if query is not None:
                self.query = read_query(str(query))

    def run(self) -> None:
        """Print a table of what was found."""
        terminal, settings = Terminal(highlight=False), self.settings
        model = self._model()
        where = "" if settings["filter"] is None else str(settings["filter"])
        (found,) = self.store.search(
            _embedded(model, self.query), settings["top_k"], where, settings["method"], settings["candidates"]
        )
        of = f" that meet {where}" if where else ""
        say(terminal, f"{settings['query']}: the nearest {len(found)} of {len(self.store):,}{of}")
        if found:
            draw(terminal, table(found))

    def _model(self) -> Adapter:
        """The model that made the store: the one that is named, else the one where the store says that it lay.

        Raises:
            UserError: it is not there any more, or holds other weights.
        """
        manifest = self.store.manifest
        given = self.settings["artifact"]
        if given is None and manifest.source:
            given = str(Path(self.settings["store"]["path"]) / manifest.source)
            if not holds_model(Path(given)):
                raise UserError(
                    f"the model that made {self.settings['store']['path']} is not at {given} any more: name it with"
                    " artifact=<its artifact or checkpoint>."
                )
        subject = one_subject(given, ONE)
        model = subject.load(self)
        if manifest.model and checksum(model.module) != manifest.model:
            raise UserError(
                f"{self.settings['store']['path']} was made by other weights than {subject.name}'s: name its model with"
                " artifact=<path>, or model=, or index the data with this one into a store of its own."
            )
        return model


def _embedded(model: Adapter, query: Query) -> Embeddings:
    if query.image is not None:
        return encoded_images(model, query.image, outputs=image_outputs(model))
    if query.sound is not None:
        return encoded_sounds(model, query.sound)
    if "texts" not in model.reads:
        raise UserError(
            f"the model '{model.name}' reads {', '.join(model.reads)} and no texts: give the path of a file as query=."
        )
    embeddings = encoded_texts(model, [text for text, _ in query.texts], prompt=prompt_of(model, "query"))
    weights = np.array([weight for _, weight in query.texts], np.float32)
    summed: Embeddings = weights @ embeddings
    return summed[None]


def table(found: list[Match]) -> Table:
    """A line for each match, with the fields that any of them has."""
    names = [name for name in dict.fromkeys(name for match in found for name in match.fields) if name not in HIDDEN]
    rows = [(match.id, *(_cell(match.fields.get(name, "")) for name in names), f"{match.score:.4f}") for match in found]
    return Table(("id", *names, "cosine"), tuple(rows), 1 + len(names))


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
