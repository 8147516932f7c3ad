"""Write and read segments: vectors that never change once they are written, mapped and not loaded.

A segment of N vectors of D dimensions is a directory of

    vectors   N × D float32, little-endian, each of length 1
    codes     N × ⌈D / 64⌉ uint64: a bit a dimension, whether the value lies above the mean
    mean      D float32
    rows      a line of JSON for each vector: its id and its fields

Which of its rows were deleted since stands in a file beside it, a bit a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.atomic import new_directory, write_file
from rcc.errors import UserError
from rcc.limits import regular_file
from rcc.store.filters import Condition
from rcc.store.manifest import SegmentEntry
from rcc.store.schema import ID, Vectors

VECTORS, CODES, MEAN, ROWS = "vectors", "codes", "mean", "rows"
BLOCK = 16_384
"""Rows that are looked at together: some tens of megabytes."""


class Segment:
    """The read side of a segment. All its files are mapped at once, so that it outlives its removal from the disk.

    Raises:
        UserError: a file is missing, or not as long as the manifest says.
    """

    def __init__(self, folder: Path, entry: SegmentEntry, dimensions: int) -> None:
        self.entry = entry
        place, words = folder / entry.name, -(-dimensions // 64)
        self.vectors: Vectors = mapped(place / VECTORS, np.dtype("<f4"), (entry.rows, dimensions))
        self.codes: NDArray[np.uint64] = mapped(place / CODES, np.dtype("<u8"), (entry.rows, words))
        self.mean: Vectors = mapped(place / MEAN, np.dtype("<f4"), (dimensions,))
        self._rows = mapped(place / ROWS, np.dtype("u1"), None)
        self._where = place
        self.alive: NDArray[np.bool_] | None = None
        """(N,) which rows were not deleted; None where all are there."""
        if entry.dead:
            bits = mapped(folder / entry.dead, np.dtype("u1"), (-(-entry.rows // 8),))
            self.alive = ~np.unpackbits(bits, count=entry.rows).view(bool)

    def __len__(self) -> int:
        return self.entry.rows

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The id and the fields of each row.

        Raises:
            UserError: they are damaged.
        """
        try:
            found = [json.loads(line) for line in self._rows.tobytes().splitlines()]
            assert len(found) == len(self)
            assert all(isinstance(row, dict) and isinstance(row[ID], str) for row in found)
        except (ValueError, AssertionError, KeyError, RecursionError) as error:
            raise UserError(f"{self._where / ROWS} is damaged. Index the data again into another store.") from error
        return found

    def fields(self, place: int) -> dict[str, Any]:
        """The fields of a row, without its id."""
        return {name: value for name, value in self.rows[place].items() if name != ID}

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each id that is alive."""
        return {row[ID]: place for place, row in enumerate(self.rows) if self.alive is None or self.alive[place]}

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {}

    def chosen(self, conditions: Sequence[Condition]) -> NDArray[np.int64] | None:
        """The rows that are alive and meet all conditions; None for all rows."""
        mask = self.alive
        for condition in conditions:
            if condition.name not in self._columns:
                column = np.empty(len(self), dtype=object)
                column[:] = [row.get(condition.name) for row in self.rows]
                self._columns[condition.name] = column
            met = condition.met(self._columns[condition.name])
            mask = met if mask is None else mask & met
        return None if mask is None else np.flatnonzero(mask)

    def with_dead(self, dead: Iterable[int]) -> NDArray[np.bool_]:
        """(N,) which rows are dead once these are."""
        mask = np.zeros(len(self), bool) if self.alive is None else ~self.alive
        mask[list(dead)] = True
        return mask


def alive_vectors(segments: Sequence[Segment]) -> Iterator[Vectors]:
    """The vectors that are alive in these, block by block."""
    for segment in segments:
        rows = _alive(segment)
        yield from (segment.vectors[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))


def alive_rows(segments: Sequence[Segment]) -> Iterator[dict[str, Any]]:
    """The ids and fields that are alive in these."""
    return (segment.rows[place] for segment in segments for place in _alive(segment))


def _alive(segment: Segment) -> NDArray[np.int64]:
    return np.arange(len(segment)) if segment.alive is None else np.flatnonzero(segment.alive)


def write_segment(
    folder: Path, name: str, dimensions: int, rows: int, blocks: Iterator[Vectors], described: Iterable[dict[str, Any]]
) -> SegmentEntry:
    """Write a segment of `rows` vectors that come in blocks, forced to disk before it has its name.

    Raises:
        WorkError: the disk is full or fails.
    """
    with new_directory(folder / name) as place:
        sums = np.zeros(dimensions, np.float64)
        with (place / VECTORS).open("wb") as file:
            for block in blocks:
                sums += block.sum(0, dtype=np.float64)
                file.write(np.ascontiguousarray(block, dtype="<f4").data)
        mean = (sums / rows).astype("<f4")
        (place / MEAN).write_bytes(mean.tobytes())
        vectors: Vectors = mapped(place / VECTORS, np.dtype("<f4"), (rows, dimensions))
        with (place / CODES).open("wb") as file:
            for start in range(0, rows, BLOCK):
                file.write(codes_of(vectors[start : start + BLOCK], mean).data)
        with (place / ROWS).open("w", encoding="utf-8", newline="\n") as text:
            text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in described)
    return SegmentEntry(name, rows)


def write_dead(folder: Path, name: str, dead: NDArray[np.bool_]) -> None:
    """Write which rows of a segment are dead."""
    write_file(folder / name, np.packbits(dead).tobytes())


def codes_of(vectors: Vectors, mean: Vectors) -> NDArray[np.uint64]:
    """(N, ⌈D / 64⌉) bits: which values lie above the mean; bits beyond D are 0."""
    bits = np.packbits(vectors > mean, axis=1, bitorder="little")
    padded = np.zeros((len(bits), -(-vectors.shape[1] // 64) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view("<u8")


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> Any:
    """The array in a file, as a map; of any length where there is no shape.

    Raises:
        UserError: it is not there, or not as long as its shape says.
    """
    try:
        size = regular_file(path).stat().st_size
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}. Index the data again.") from error
    shape = (size // dtype.itemsize,) if shape is None else shape
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != wanted or size == 0:
        raise UserError(f"{path} has {size} bytes and should have {wanted}: it is damaged. Index the data again.")
    return np.memmap(path, dtype, "r", shape=shape)
