"""Locate a data set and its official parts: a path that is there, or an error that shows what is there instead."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from rcc.atomic import reading
from rcc.errors import UserError, abridged, nearest, path_fault
from rcc.limits import expanded, regular_file

SHOWN = 8  # entries a message shows
PARTS = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy and Fei-Fei (2015): COCO validation images that are trained on as well
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
WHOLE = "all"
"""The part of a data set that is not divided."""
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
SOUND_SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"))


def located(dataset: str, path: str | Path | None) -> Path:
    """`path` as it is, once it is known to exist.

    Raises:
        UserError: no path, or nothing there; the message shows what lies beside it.
    """
    if path is None:
        raise UserError(
            f"data '{dataset}' needs the place of its files: give data.path=<folder>. docs/data.md shows how the folder"
            " looks."
        )
    if not isinstance(path, (str, Path)):
        raise UserError(f"data.path is {path!r}, which is no text; write data.path=./{path}.")
    path = expanded("data.path", path)
    with reading(path):
        found = path.exists()
    if found and not path.is_dir():
        return regular_file(path)
    if found:
        return path
    parent = next(above for above in path.absolute().parents if above.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    names = sorted(entry.name for entry in parent.iterdir())
    raise UserError(
        f"data.path={path} does not exist.{nearest(missing, names)} '{parent}' holds {shown(names)}; docs/data.md shows"
        f" how the files of '{dataset}' are laid out."
    )


def inside(folder: Path, name: str) -> Path:
    """The file that a row of a table calls `name`, relative to `folder` or absolute; it lies in `folder` after links
    are followed.

    Raises:
        UserError: it does not, or nothing can be called so.
    """
    fault = path_fault(name)
    if fault:
        raise UserError(f"a row names the file '{abridged(name)}', which {fault}.")
    file = folder / name
    if not lies_in(folder, file):
        raise UserError(
            f"a row names the file '{abridged(name)}', which is not in '{folder}' once links are followed. Rows name"
            " files of their own folder alone; put the file there."
        )
    return file


def lies_in(folder: Path, file: Path) -> bool:
    """Whether a file or a folder lies in `folder` once links are followed; no where they cannot be."""
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle, a folder that may not be looked into
        return False


def shown(names: Iterable[str]) -> str:
    """The first few names for a message, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(f"'{abridged(name)}'" for name in names[:SHOWN]) + rest) or "nothing"


def entries(folder: Path) -> str:
    """The first entries of a folder, folders with a slash, for a message."""
    if not folder.is_dir():
        return f"the file '{folder.name}'"
    found = sorted(folder.iterdir(), key=lambda entry: (entry.is_file(), entry.name))
    return shown(entry.name + ("/" if entry.is_dir() else "") for entry in found)


def official_part(name: str) -> str:
    """The part a name speaks of: 'validation' for 'captions_val2017' or 'Validation_GCC', 'all' where it speaks of
    none."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((PARTS[word] for word in words if word in PARTS), WHOLE)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, see `ends_as`."""
    return ends_as(name, IMAGE_SUFFIXES)


def ends_as(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a file is of a kind by its name; hidden files, such as macOS leaves beside others, are of none."""
    return os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a regular file after links are followed; a link in a circle is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def part_folders(path: Path) -> dict[str, Path]:
    """The sub-folders that are parts, by part; or `path` itself, undivided."""
    found = {PARTS[entry.name.lower()]: entry for entry in sorted(path.iterdir()) if entry.name.lower() in PARTS}
    return {part: entry for part, entry in found.items() if entry.is_dir()} or {WHOLE: path}
