"""Recognise a table's columns of images, sounds, captions and labels; make a split of them that decodes when asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rcc.data.files.encoded import EncodedFiles
from rcc.data.files.images import EncodedImages
from rcc.data.files.location import inside, official_part, shown
from rcc.data.files.records import reason, sentences, told
from rcc.data.files.sounds import EncodedSounds
from rcc.data.splits import Split
from rcc.errors import Problems, UserError
from rcc.limits import read_bytes

if TYPE_CHECKING:
    from datasets import Dataset

Encoded = TypeVar("Encoded", bound=EncodedFiles)
CAPTIONS = ("captions", "caption", "sentences", "sentence", "texts", "text", "raw")
LABELS = ("label", "labels", "fine_label", "class", "target")
BINARY = ("binary", "large_binary")
KEYS = ("filename", "file_name", "image_id", "img_id", "cocoid", "__key__", "key", "id")


def captioned(dataset: str, part: str, table: Dataset, folder: Path | None = None) -> tuple[Split, list[str]]:
    """A part of an image–text set, an image and its captions in each row; and the names of images without a caption,
    which are left out.

    Captions are a column of strings or of lists of strings (or of records with the string under 'raw'), called one of
    `CAPTIONS`; or several, called caption_0, caption_1, ….

    Raises:
        UserError: no column of images or of captions, or rows without an image.
    """
    images = stored_images(dataset, part, table, folder)
    columns = sorted((name for name in table.column_names if re.fullmatch(r"caption_\d+", name)), key=_number)
    columns = columns or [name for name in CAPTIONS if name in table.column_names][:1]
    if not columns:
        raise _no_column(dataset, part, table, "captions", CAPTIONS)
    captions: list[list[str]] = [[] for _ in range(len(images))]
    for name in columns:
        for row, value in enumerate(_cells(dataset, part, table, name)):
            try:
                captions[row] += sentences(value, f"'{name}'")
            except (ValueError, RecursionError) as error:
                raise UserError(f"data '{dataset}', row {row} of {part}: {reason(error)}.") from error
    first: dict[str, int] = {}  # the row of each image: some sets have a row for each caption
    for row in range(len(images)):
        if (of := first.setdefault(images.name(row), row)) != row:
            captions[of] += captions[row]
    silent = [images.name(row) for row in first.values() if not captions[row]]
    rows = np.fromiter((row for row in first.values() if captions[row]), np.int64)
    return Split(part, images.subset(rows), tuple(tuple(captions[row]) for row in rows)), silent


def captioned_parts(
    dataset: str, tables: Mapping[str, Dataset], unpaired: str, folder: Path | None = None
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The parts of an image–text set, and notes on what was left out. A table that stands alone and has a column
    'split' is divided by it.

    Raises:
        UserError: as of `captioned`; or images without a caption, and `unpaired` is 'refuse'.
    """
    found = {name: captioned(dataset, name, table, folder) for name, table in tables.items()}
    silent = [name for _, names in found.values() for name in names]
    told = f"{len(silent)} images have no caption: {shown(silent)}"
    if silent and unpaired == "refuse":
        raise UserError(f"data '{dataset}': {told}. Complete the tables, or leave them out with data.unpaired=skip.")
    return _divided(dataset, {name: split for name, (split, _) in found.items()}, tables), (
        (f"{told}; they were left out.",) if silent else ()
    )


def _divided(dataset: str, parts: dict[str, Split], tables: Mapping[str, Dataset]) -> dict[str, Split]:
    alone = next(iter(tables)) if len(tables) == 1 else ""
    if not alone or "split" not in tables[alone].column_names:
        return parts
    whole, named = parts[alone], _cells(dataset, alone, tables[alone], "split")
    assert isinstance(whole.images, EncodedImages)
    own = np.array([official_part(str(named[row])) for row in whole.images.indices])
    return {str(part): whole.subset(np.flatnonzero(own == part)) for part in np.unique(own)}


def labelled(
    dataset: str, part: str, table: Dataset, folder: Path | None = None, field: str = "images"
) -> tuple[Split, tuple[str, ...]]:
    """A part of a labelled set, and the class names the table has, () if none.

    Args:
        field: 'images' or 'audio'.

    Raises:
        UserError: no column of images or sounds, or of whole-number labels.
    """
    from datasets import ClassLabel, Value

    items = (stored_images if field == "images" else stored_sounds)(dataset, part, table, folder)
    column = next((name for name in LABELS if name in table.column_names), None)
    if column is None:
        raise _no_column(dataset, part, table, "labels", LABELS)
    feature = table.features[column]
    cells = _cells(dataset, part, table, column)
    problems = Problems(f"data '{dataset}', {part}")
    plain = isinstance(feature, (ClassLabel, Value))
    labels = np.asarray(cells if plain else [], None if cells and plain else np.int64)
    holds = labels.dtype if plain else f"{told(cells[0])} in its first row" if cells else "cells of several values"
    problems.check(
        plain and np.issubdtype(labels.dtype, np.integer), f"column '{column}' holds {holds}, not whole-number labels."
    )
    problems.done()
    wrong = [int(label) for label in (labels.min(), labels.max()) if not 0 <= label < 1 << 62] if len(labels) else []
    problems.check(
        not wrong, f"column '{column}' holds the label {wrong[0] if wrong else 0}; this part has no known classes."
    )
    problems.done()
    names = tuple(feature.names) if isinstance(feature, ClassLabel) and feature.names else ()
    of: dict[str, Any] = {field: items}
    return Split(part, labels=labels.astype(np.int64), **of), names


def stored_images(dataset: str, part: str, table: Dataset, folder: Path | None = None) -> EncodedImages:
    """The images of a table as it stores them, see `_stored`."""
    from datasets import Image

    return _stored(EncodedImages, Image, dataset, part, table, folder)


def stored_sounds(dataset: str, part: str, table: Dataset, folder: Path | None = None) -> EncodedSounds:
    """The sounds of a table as it stores them, see `_stored`."""
    from datasets import Audio

    return _stored(EncodedSounds, Audio, dataset, part, table, folder)


def _stored(kind: type[Encoded], feature: Any, dataset: str, part: str, table: Dataset, folder: Path | None) -> Encoded:
    """The encoded files of a table as it stores them; bytes are read when an item is asked for.

    Args:
        feature: the library's class of such columns.
        folder: where files may lie that rows name in place of bytes; None: such rows are refused.

    Raises:
        UserError: no column holds any, or rows have none, or name a file that is not in `folder`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    noun = "image" if kind is EncodedImages else "audio"
    columns = [name for name, found in table.features.items() if isinstance(found, feature) or _encoded(found)]
    if not columns:
        raise _no_column(dataset, part, table, f"{kind.noun}s", (noun,))
    encoded = table.with_format("arrow").select_columns(columns[:1])[:].column(0)
    paths: list[str | None] = [None] * len(table)
    if pa.types.is_struct(encoded.type):
        encoded, paths = pc.struct_field(encoded, "bytes"), _listed(pc.struct_field(encoded, "path"), dataset, part)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_null)
    if not any(holds(encoded.type) for holds in binary):
        raise UserError(
            f"data '{dataset}', {part}: column '{columns[0]}' holds {encoded.type} and no encoded {kind.noun}s."
        )
    empty = [
        row
        for row, (none, path) in enumerate(zip(pc.is_null(encoded).to_pylist(), paths, strict=True))
        if none and not path
    ]
    if empty:
        raise UserError(
            f"data '{dataset}', {part}: {len(empty)} rows have no {kind.noun}; the first is row {empty[0]}."
        )

    blank = pc.is_null(encoded).to_pylist()
    files = {
        row: _file_of_row(dataset, part, row, path, folder, kind.noun) for row, path in enumerate(paths) if blank[row]
    }

    def stored(row: int) -> bytes:
        if row in files:
            return read_bytes(files[row], limit=kind.limit)
        return bytes(encoded[row].as_py())

    names = [f"{path or noun} (row {row} of {part})" for row, path in enumerate(paths)]
    return kind(_keys(dataset, part, table) or names, stored)


def _file_of_row(dataset: str, part: str, row: int, path: Any, folder: Path | None, noun: str) -> Path:
    """The file that a row names in place of the bytes of its item."""
    try:
        if not isinstance(path, str) or folder is None:
            article = "an" if noun == "image" else "a"
            raise UserError(
                f"it has no bytes of {article} {noun} and names {told(path)}, which is in no folder of the data."
            )
        return inside(folder, path)
    except UserError as error:
        raise UserError(f"data '{dataset}', row {row} of {part}: {error}") from error


def _cells(dataset: str, part: str, table: Dataset, column: str) -> list[Any]:
    """A column as plain values; images in it are not decoded."""
    return _listed(table.with_format("arrow").select_columns([column])[:].column(0), dataset, part)


def _listed(column: Any, dataset: str, part: str) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError) as error:  # texts that are no UTF-8, dates that there are not
        raise UserError(f"data '{dataset}', {part}: a column cannot be read ({error}).") from error


def _keys(dataset: str, part: str, table: Dataset) -> list[str]:
    """Each row's name of its image, shared by rows of one image; empty where no column has a name for every row."""
    named = next((name for name in KEYS if name in table.column_names), None)
    cells = [] if named is None else _cells(dataset, part, table, named)
    return [f"{part}/{value}" for value in cells] if all(isinstance(value, (str, int)) for value in cells) else []


def _encoded(feature: Any) -> bool:
    """Whether a column of another kind than the library's images holds encoded files: bytes and path, or bytes."""
    return getattr(feature, "dtype", "") in BINARY or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _number(column: str) -> int:
    return int(column.rpartition("_")[2])


def _no_column(dataset: str, part: str, table: Dataset, what: str, known: Sequence[str]) -> UserError:
    return UserError(
        f"data '{dataset}', {part}: no column holds {what}; it may be called {', '.join(known)}. The columns are"
        f" {', '.join(table.column_names)}."
    )
