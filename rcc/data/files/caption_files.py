"""Captions in CSV, TSV and JSONL files: a line is an image file and a caption, or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcc.data.files.columns import CAPTIONS
from rcc.data.files.lines import FORMATS, read_records
from rcc.data.files.location import WHOLE, entries, official_part, shown
from rcc.data.files.records import of_kind, reason, sentences, told
from rcc.errors import UserError

IMAGES = ("image", "path", "image_path", "filepath", "file_name", "filename", "file", "img")

Found = dict[str, dict[str, list[str]]]


def caption_files(dataset: str, path: Path) -> list[Path]:
    """The caption files at `path`: itself, or those in the folder.

    Raises:
        UserError: there is none.
    """
    files = [path] if not path.is_dir() else sorted(file for file in path.iterdir() if file.suffix.lower() in FORMATS)
    if not files or files[0].suffix.lower() not in FORMATS:
        raise UserError(
            f"data '{dataset}': '{path}' holds no caption file ({', '.join(f'*{each}' for each in FORMATS)}). Found:"
            f" {entries(path)}. docs/data.md shows how the files are laid out."
        )
    return files


def read_captions(
    dataset: str, files: Sequence[Path], image_column: str | None = None, caption_column: str | None = None
) -> Found:
    """By part, then by image file: the captions, in the order of the lines. Lines of one image are joined.

    The part is the line's own column 'split' where there is one, else what the file's name speaks of. A caption may be
    a list of them.

    Args:
        image_column, caption_column: what they are called; by default the first of the usual names.

    Raises:
        UserError: a file that cannot be read, a column that is not there, or a line without an image.
    """
    found: Found = {}
    for file in files:
        for number, row in read_records(dataset, file):
            image = row.get(_column(dataset, file, row, "image", image_column, IMAGES))
            if not isinstance(image, str) or not image.strip():
                found_there = "" if image is None or image == "" else f" Its column holds {told(image)}."
                raise UserError(f"data '{dataset}': line {number} of '{file}' names no image.{found_there}")
            caption = _column(dataset, file, row, "caption", caption_column, CAPTIONS)
            try:
                of_kind(image, str, "the image")
                texts = sentences(row[caption], f"'{caption}'")
            except (ValueError, RecursionError) as error:
                raise UserError(f"data '{dataset}': line {number} of '{file}': {reason(error)}.") from error
            named = row.get("split")
            part = official_part(named) if isinstance(named, str) and named else official_part(file.stem)
            found.setdefault(part, {}).setdefault(image.strip(), []).extend(texts)
    if not found:
        raise UserError(f"data '{dataset}': no line of {shown(map(str, files))} names an image.")
    if set(found) - {WHOLE} and WHOLE in found:
        raise UserError(
            f"data '{dataset}': some captions belong to a part ({', '.join(sorted(set(found) - {WHOLE}))}) and some to"
            " none; name every file train…, val… or test…, or fill the column 'split' of every line."
        )
    return found


def _column(dataset: str, file: Path, row: dict[str, Any], what: str, given: str | None, usual: Sequence[str]) -> str:
    names = (given,) if given is not None else usual
    column = next((name for name in names if name in row), None)
    if column is None:
        raise UserError(
            f"data '{dataset}': '{file}' has no column {' or '.join(repr(name) for name in names)} for the {what}; it"
            f" has {', '.join(repr(name) for name in row)}. Name it with data.{what}_column=<name>."
        )
    return column
