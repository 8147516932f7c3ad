"""Keep vectors by id in segments and one manifest: add, replace, delete, search, each change whole or not at all.

A change writes new files beside the old ones, forces them to disk, and then replaces the manifest: when a call
returns, what it did is on the disk, and a kill at any instant leaves the store as it was before the call or after it.
Readers keep the segments that they opened until they `refresh`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rcc.atomic import PARTIAL, REMOVED, clean_leftovers, disk_errors, remove_directory
from rcc.errors import Problems, UserError
from rcc.store.filters import read_filter
from rcc.store.lists import END, LEAST_ROWS, PROBES, check_installed, lists_of, nearest_by_lists, write_lists
from rcc.store.manifest import DEAD, FILE, SEGMENT, SegmentEntry, StoreManifest, read_manifest
from rcc.store.schema import ID, KINDS, Fields, Vectors, checked_fields, checked_ids, unit_vectors
from rcc.store.search import CODES, EXACT, LISTS, METHODS, best, nearest, usual_candidates
from rcc.store.segment import Segment, alive_rows, alive_vectors, write_dead, write_segment

LOCK = ".lock"
WAIT = 60.0
"""Seconds to wait for another writer."""
MOST_SEGMENTS = 16
"""Beyond so many, the smaller half of them becomes one."""
MOST_DEAD = 0.3
"""Share of rows that may be dead before all that is alive is written anew."""


@dataclass(frozen=True)
class Match:
    """A row that was found: its id, its cosine to the query, and its fields."""

    id: str
    score: float
    fields: dict[str, Any] = field(default_factory=dict)


class EmbeddingStore:
    """Vectors of one model with their ids and fields, in a directory.

    >>> store = rcc.EmbeddingStore("store", model=checksum)
    >>> store.add(["a.jpg", "b.jpg"], embeddings, [{"year": 2019}, {"year": 2021}])
    >>> store.search(query, top_k=5, where="year>=2020")
    [[Match(id='b.jpg', score=0.31, fields={'year': 2021})]]

    Args:
        path: the directory; it is made by the first `add`.
        kind: of the vectors, one of `KINDS`; None for what the store says, 'clip' for a new one.
        dimensions: of a vector; None for what the store says, or the first vectors have.
        model: the checksum of the weights that make the vectors; None for what the store says.
        source: of a new store: the path of the model from the store's directory.

    Raises:
        UserError: the store there is damaged, or is of another kind, width or model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        kind: str | None = None,
        dimensions: int | None = None,
        model: str | None = None,
        source: str = "",
    ) -> None:
        problems = Problems("EmbeddingStore")
        if kind is not None:
            problems.choice("kind", kind, KINDS)
        if dimensions is not None:
            problems.whole("dimensions", dimensions, 1)
        problems.done()
        self.path, self._source = Path(path), source
        self._asked: dict[str, Any] = {"kind": kind, "dimensions": dimensions, "model": model}
        self._manifest: StoreManifest | None = None
        self._segments: tuple[Segment, ...] = ()
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; a store is a directory.")
        if self.path.exists() and not (self.path / FILE).exists() and self._holds_foreign_files():
            raise UserError(f"{self.path} is not empty and no store: choose another directory.")
        self.refresh()

    def __len__(self) -> int:
        """Vectors that are alive."""
        return 0 if self._manifest is None else self._manifest.rows

    def __contains__(self, id: object) -> bool:
        return any(id in segment.places for segment in self._segments)

    @property
    def manifest(self) -> StoreManifest:
        """What the store is, as it was when it was opened or refreshed.

        Raises:
            UserError: nothing was added yet.
        """
        return read_manifest(self.path) if self._manifest is None else self._manifest

    def ids(self) -> Iterator[str]:
        """The ids that are alive, in the order in which they were added."""
        return (id for segment in self._segments for id in segment.places)

    def fields_of(self, id: str) -> dict[str, Any] | None:
        """The fields of an id; None where it is not there."""
        found = ((segment, segment.places[id]) for segment in self._segments if id in segment.places)
        return next((segment.fields(place) for segment, place in found), None)

    def vectors_of(self, ids: Sequence[str]) -> Vectors:
        """(N, D) the vectors of ids.

        Raises:
            UserError: one is not there.
        """
        rows = []
        for id in ids:
            held = next((segment for segment in self._segments if id in segment.places), None)
            if held is None:
                raise UserError(f"{self.path} has no id {id!r}; it holds {len(self)}.")
            rows.append(held.vectors[held.places[id]])
        return np.stack(rows)

    def refresh(self) -> None:
        """See what others have written since.

        Raises:
            UserError: the store is damaged, or became one of another kind.
        """
        if not (self.path / FILE).exists():
            return
        while True:
            found = read_manifest(self.path)
            self._refuse_another(found)
            if self._manifest is not None and found.generation == self._manifest.generation:
                return
            known = {segment.entry: segment for segment in self._segments}
            try:
                made = [known.get(each) or Segment(self.path, each, found.dimensions) for each in found.segments]
            except UserError:
                if read_manifest(self.path).generation != found.generation:
                    continue  # what was named a moment ago was merged meanwhile
                raise
            self._manifest, self._segments = found, tuple(made)
            return

    def add(self, ids: Sequence[str] | str, vectors: Any, fields: Sequence[Fields] | None = None) -> None:
        """Add rows, or replace those whose id is there. When this returns they are on the disk.

        Args:
            vectors: (N, D), or (D,) for one; they are kept at length 1.
            fields: of each row, by name: texts, numbers, true or false; a field keeps the type that it had first.

        Raises:
            UserError: a row that cannot be kept, or another process writes for too long.
            WorkError: the disk is full or fails; nothing was added.
        """
        with self._writing():
            before = self._manifest
            rows = unit_vectors("vectors", vectors, self._asked["dimensions"] if before is None else before.dimensions)
            names = checked_ids(ids, len(rows))
            described, types = checked_fields(fields, len(rows), {} if before is None else before.fields)
            if before is None:
                before = StoreManifest(
                    self._asked["kind"] or KINDS[0], rows.shape[1], self._asked["model"] or "", self._source
                )
            after = self._without(before, names)
            entry = write_segment(
                self.path,
                f"segment-{after.generation:08d}",
                before.dimensions,
                len(rows),
                iter([rows]),
                ({ID: name, **row} for name, row in zip(names, described, strict=True)),
            )
            self._commit(replace(after, fields=types, segments=(*after.segments, entry)))
            self._compact_if_due()

    def delete(self, ids: Sequence[str] | str) -> int:
        """Delete the rows of these ids; returns how many there were.

        Raises:
            UserError, WorkError: as `add`.
        """
        if not (self.path / FILE).exists():
            return 0
        with self._writing():
            before = self.manifest
            after = self._without(before, [ids] if isinstance(ids, str) else ids)
            gone = before.rows - after.rows
            if gone:
                self._commit(after)
                self._compact_if_due()
            return gone

    def compact(self) -> None:
        """Write all that is alive into one segment, and let go of the rest.

        Raises:
            UserError, WorkError: as `add`.
        """
        with self._writing():
            if self._manifest is not None:
                self._merge(self._segments)

    def search(
        self, queries: Any, top_k: int = 10, where: str = "", method: str = EXACT, candidates: int | None = None
    ) -> list[list[Match]]:
        """For each query the nearest rows by cosine, the nearest first; all where there are fewer than `top_k`.

        Args:
            queries: (Q, D), or (D,) for one.
            where: conditions on fields, see `rcc.store.filters`; they are met before anything is compared.
            method: 'exact' compares with every vector, 'codes' with those alone that are nearest by their codes,
                'lists' with those of the nearest lists, see `build_lists`: how many of the nearest these miss depends
                on the vectors, see `recall`.
            candidates: of codes: how many vectors of each segment are compared; None: 20 times `top_k`, 200 at least.
                Of lists: how many lists; None: 16.

        Raises:
            UserError: queries of another width or that point nowhere, or a filter that cannot be read.
        """
        problems = Problems("search")
        problems.whole("top_k", top_k, 1)
        problems.choice("method", method, METHODS)
        if candidates is not None:
            problems.whole("candidates", candidates, 1)
            problems.check(method != EXACT, "candidates has no effect with method=exact, which compares all.")
        problems.done()
        compared = max(top_k, candidates or usual_candidates(top_k)) if method == CODES else None
        lists = [lists_of(self.path, segment) if method == LISTS else None for segment in self._segments]
        if method == LISTS and not any(lists):
            raise UserError(f"{self.path} has no lists: rcc-run job=index store.index=faiss makes them.")
        asked = unit_vectors("queries", queries, self.manifest.dimensions)
        conditions = read_filter(where, self.manifest.fields) if where else []
        numbers, places, scores = [], [], []
        for number, segment in enumerate(self._segments):
            if own := lists[number]:
                found, values = nearest_by_lists(segment, own, asked, top_k, conditions, candidates or PROBES)
            else:
                found, values = nearest(segment, asked, top_k, conditions, compared)
            numbers.append(np.full(found.shape, number))
            places.append(found)
            scores.append(values)
        if not places:
            return [[] for _ in asked]
        of_segment = np.concatenate(numbers, axis=1)
        order, values = best(
            np.broadcast_to(np.arange(of_segment.shape[1]), of_segment.shape), np.concatenate(scores, 1), top_k
        )
        rows = np.concatenate(places, axis=1)
        return [
            [
                self._match(of_segment[query, at], rows[query, at], value)
                for at, value in zip(order[query], values[query], strict=True)
            ]
            for query in range(len(asked))
        ]

    def recall(self, queries: Any, top_k: int = 10, method: str = CODES, candidates: int | None = None) -> float:
        """The share of the `top_k` nearest of each query that a method other than 'exact' finds."""
        exact, other = self.search(queries, top_k), self.search(queries, top_k, "", method, candidates)
        found = sum(
            len({match.id for match in one} & {match.id for match in another})
            for one, another in zip(exact, other, strict=True)
        )
        return found / max(1, sum(map(len, exact)))

    def build_lists(self) -> int:
        """Merge all segments and sort the rows into lists about centroids, for `search` with method='lists'; rows that
        are added later are compared one and all. Returns how many lists were made.

        Raises:
            UserError: the store has fewer rows, so that it would have no effect, or faiss is not installed.
            WorkError: as `add`.
        """
        check_installed()
        if len(self) < LEAST_ROWS:
            raise UserError(
                f"{self.path} has {len(self):,} rows and lists have an effect from {LEAST_ROWS:,} on: below, every row"
                " is compared in milliseconds. Leave store.index out."
            )
        with self._writing():
            self._merge(self._segments)
            made = [write_lists(self.path, each) for each in self._segments if lists_of(self.path, each) is None]
        return sum(made)

    def _match(self, segment: int, place: int, score: float) -> Match:
        found = self._segments[segment]
        return Match(found.rows[place][ID], float(score), found.fields(place))

    # Changes; the caller holds the lock.

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the writers' lock, with the newest state, and without what killed writers left."""
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            raise UserError(
                f"another process has been writing to {self.path} for {WAIT:.0f} s. Try again later."
            ) from None
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}.") from error
        try:
            self.refresh()
            self._sweep()
            yield
        finally:
            lock.release()

    def _without(self, manifest: StoreManifest, ids: Sequence[str]) -> StoreManifest:
        """The next manifest, in which the rows of these ids are dead; the files that say so are written."""
        generation, entries = manifest.generation + 1, []
        for segment in self._segments:
            gone = [segment.places[id] for id in ids if id in segment.places]
            entry = segment.entry
            if gone:
                dead = segment.with_dead(gone)
                name = f"{entry.name}.dead-{generation:08d}"
                write_dead(self.path, name, dead)
                entry = replace(entry, dead=name, dead_rows=int(dead.sum()))
            entries.append(entry)
        return replace(manifest, generation=generation, segments=tuple(entries))

    def _commit(self, manifest: StoreManifest) -> None:
        kept = tuple(entry for entry in manifest.segments if entry.dead_rows < entry.rows)
        replace(manifest, segments=kept).write(self.path)
        self.refresh()
        self._sweep()

    def _compact_if_due(self) -> None:
        entries = self.manifest.segments
        if sum(entry.dead_rows for entry in entries) > MOST_DEAD * sum(entry.rows for entry in entries):
            self._merge(self._segments)
        elif len(entries) > MOST_SEGMENTS:
            by_size = sorted(self._segments, key=len)
            self._merge(by_size[: len(by_size) // 2])

    def _merge(self, chosen: Sequence[Segment]) -> None:
        """Make one segment of what is alive in these, in their order, at the place of the first."""
        merged = [segment for segment in self._segments if segment in chosen]
        rows = sum(segment.entry.rows - segment.entry.dead_rows for segment in merged)
        if not merged or (len(merged) == 1 and not merged[0].entry.dead_rows):
            return
        manifest = self.manifest
        generation = manifest.generation + 1
        entry = write_segment(
            self.path, f"segment-{generation:08d}", manifest.dimensions, rows, alive_vectors(merged), alive_rows(merged)
        )
        names = {segment.entry.name for segment in merged}
        entries: list[SegmentEntry] = []
        for each in manifest.segments:
            if each.name not in names:
                entries.append(each)
            elif entry not in entries:
                entries.append(entry)
        self._commit(replace(manifest, generation=generation, segments=tuple(entries)))

    def _sweep(self) -> None:
        """Remove what no manifest names any more, or never did."""
        clean_leftovers(self.path)
        entries = () if self._manifest is None else self._manifest.segments
        named = {entry.name for entry in entries} | {entry.dead for entry in entries}
        named |= {f"{entry.name}{END}" for entry in entries}
        with disk_errors(self.path):
            for path in self.path.iterdir():
                if path.name in named:
                    continue
                if SEGMENT.fullmatch(path.name.removesuffix(END)) and path.is_dir():
                    remove_directory(path)
                elif DEAD.fullmatch(path.name):
                    path.unlink()

    def _refuse_another(self, found: StoreManifest) -> None:
        for name, asked in self._asked.items():
            there = getattr(found, name)
            if asked is not None and asked != there:
                what = {"model": "made by other weights", "kind": "of another kind", "dimensions": "of another width"}
                raise UserError(
                    f"{self.path} holds vectors {what[name]}: {name} is {there or 'not said'!r}, asked {asked!r}."
                    " Vectors of two models cannot be compared: index the data with this model into another store."
                )

    def _holds_foreign_files(self) -> bool:
        own = (LOCK, PARTIAL, REMOVED)
        names = [path.name for path in self.path.iterdir() if not path.name.endswith(own)]
        return any(not SEGMENT.fullmatch(name.removesuffix(END)) for name in names)
