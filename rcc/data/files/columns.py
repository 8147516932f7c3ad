"""Recognise a table's columns of images, captions and labels, and make a split of them that decodes when asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rcc.data.files.images import EncodedImages
from rcc.data.files.location import official_part, shown
from rcc.data.splits import Split
from rcc.errors import Problems, UserError

if TYPE_CHECKING:
    from datasets import Dataset

CAPTIONS = ("captions", "caption", "sentences", "sentence", "texts", "text", "raw")
LABELS = ("label", "labels", "fine_label", "class", "target")
BINARY = ("binary", "large_binary")
KEYS = ("filename", "file_name", "image_id", "img_id", "cocoid", "__key__", "key", "id")


def captioned(dataset: str, part: str, table: Dataset) -> tuple[Split, list[str]]:
    """A part of an image–text set, an image and its captions in each row; and the names of images without a caption,
    which are left out.

    Captions are a column of strings or of lists of strings (or of records with the string under 'raw'), called one of
    `CAPTIONS`; or several, called caption_0, caption_1, ….

    Raises:
        UserError: no column of images or of captions, or rows without an image.
    """
    images = stored_images(dataset, part, table)
    columns = sorted((name for name in table.column_names if re.fullmatch(r"caption_\d+", name)), key=_number)
    columns = columns or [name for name in CAPTIONS if name in table.column_names][:1]
    if not columns:
        raise _no_column(dataset, part, table, "captions", CAPTIONS)
    written = [table.with_format(None)[name][:] for name in columns]
    captions = [[text for value in row for text in sentences(value)] for row in zip(*written, strict=True)]
    first: dict[str, int] = {}  # the row of each image: some sets have a row for each caption
    for row in range(len(images)):
        if (of := first.setdefault(images.name(row), row)) != row:
            captions[of] += captions[row]
    silent = [images.name(row) for row in first.values() if not captions[row]]
    rows = np.fromiter((row for row in first.values() if captions[row]), np.int64)
    return Split(part, images.subset(rows), tuple(tuple(captions[row]) for row in rows)), silent


def captioned_parts(
    dataset: str, tables: Mapping[str, Dataset], unpaired: str
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The parts of an image–text set, and notes on what was left out. A table that stands alone and has a column
    'split' is divided by it.

    Raises:
        UserError: as of `captioned`; or images without a caption, and `unpaired` is 'refuse'.
    """
    found = {name: captioned(dataset, name, table) for name, table in tables.items()}
    silent = [name for _, names in found.values() for name in names]
    told = f"{len(silent)} images have no caption: {shown(silent)}"
    if silent and unpaired == "refuse":
        raise UserError(f"data '{dataset}': {told}. Complete the tables, or leave them out with data.unpaired=skip.")
    return _divided({name: split for name, (split, _) in found.items()}, tables), (
        (f"{told}; they were left out.",) if silent else ()
    )


def _divided(parts: dict[str, Split], tables: Mapping[str, Dataset]) -> dict[str, Split]:
    alone = next(iter(tables)) if len(tables) == 1 else ""
    if not alone or "split" not in tables[alone].column_names:
        return parts
    whole, named = parts[alone], tables[alone].with_format(None)["split"][:]
    assert isinstance(whole.images, EncodedImages)
    own = np.array([official_part(str(named[row])) for row in whole.images.indices])
    return {str(part): whole.subset(np.flatnonzero(own == part)) for part in np.unique(own)}


def labelled(dataset: str, part: str, table: Dataset) -> tuple[Split, tuple[str, ...]]:
    """A part of a labelled set, and the class names the table has, () if none.

    Raises:
        UserError: no column of images or of whole-number labels.
    """
    from datasets import ClassLabel

    images = stored_images(dataset, part, table)
    column = next((name for name in LABELS if name in table.column_names), None)
    if column is None:
        raise _no_column(dataset, part, table, "labels", LABELS)
    feature = table.features[column]
    labels = np.asarray(table.with_format(None)[column][:])
    problems = Problems(f"data '{dataset}', {part}")
    problems.check(
        np.issubdtype(labels.dtype, np.integer), f"column '{column}' holds {labels.dtype}, not whole-number labels."
    )
    problems.done()
    problems.check(
        not len(labels) or labels.min() >= 0,
        f"column '{column}' holds the label {labels.min() if len(labels) else 0}; this part has no known classes.",
    )
    problems.done()
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
    return Split(part, images, labels=labels.astype(np.int64)), names


def stored_images(dataset: str, part: str, table: Dataset) -> EncodedImages:
    """The images of a table as it stores them; bytes are read when an image is asked for.

    Raises:
        UserError: no column holds images, or rows have none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Image

    columns = [name for name, feature in table.features.items() if isinstance(feature, Image) or _encoded(feature)]
    if not columns:
        raise _no_column(dataset, part, table, "images", ("image",))
    encoded = table.with_format("arrow").select_columns(columns[:1])[:].column(0)
    paths: list[str | None] = [None] * len(table)
    if pa.types.is_struct(encoded.type):
        encoded, paths = pc.struct_field(encoded, "bytes"), pc.struct_field(encoded, "path").to_pylist()
    empty = [
        row
        for row, (blank, path) in enumerate(zip(pc.is_null(encoded).to_pylist(), paths, strict=True))
        if blank and not path
    ]
    if empty:
        raise UserError(f"data '{dataset}', {part}: {len(empty)} rows have no image; the first is row {empty[0]}.")

    def stored(row: int) -> bytes:
        found, path = encoded[row].as_py(), paths[row]
        return Path(path).read_bytes() if found is None and path is not None else bytes(found)

    names = _keys(part, table) or [f"{path or 'image'} (row {row} of {part})" for row, path in enumerate(paths)]
    return EncodedImages(names, stored)


def sentences(value: Any) -> list[str]:
    """The captions in one cell: a string, a record with one under 'raw', or a list of either; no blank ones."""
    if isinstance(value, dict):
        value = value.get("raw")
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in sentences(each)]
    return [value.strip()] if isinstance(value, str) and value.strip() else []


def _keys(part: str, table: Dataset) -> list[str]:
    """Each row's name of its image, shared by rows of one image; empty where no column has names."""
    named = next((name for name in KEYS if name in table.column_names), None)
    return [] if named is None else [f"{part}/{value}" for value in table.with_format(None)[named][:]]


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
