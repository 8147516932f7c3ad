"""Read labelled items of one kind: from a folder for each class, or from tables with a column of labels."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rcc.data.files.class_folders import a_few_of_each, class_files, folder_split
from rcc.data.files.columns import labelled
from rcc.data.files.location import entries, located, part_folders, shown
from rcc.data.files.tables import folder_of, has_tables, read_tables
from rcc.data.splits import Split
from rcc.errors import UserError
from rcc.limits import read_bytes

SHOWN = {"images": "*.jpg", "audio": "*.wav"}


def labelled_items(
    dataset: str, path: str | None, field: str, per_class: int | None, seed: int
) -> tuple[dict[str, Split], list[str]]:
    """The official parts of a set, and what its classes are called as they are stored.

    Args:
        path: a folder with <class>/ folders, or with train/<class>/, val/<class>/, test/<class>/; or parquet files or a
            name on the hub, with a column of class labels.
        field: 'images' or 'audio'.
        per_class: at most that many items of each class of each part, chosen by the seed; None: all.

    Raises:
        UserError: no class folders, or a class without an item.
    """
    parts, classes = _tables(dataset, path, field) if has_tables(path) else _folders(dataset, path, field)
    return {part: a_few_of_each(split, per_class, seed) for part, split in parts.items()}, classes


def class_names_of(dataset: str, classes: Sequence[str], file: str | None) -> tuple[str, ...]:
    """What classes are called: as the JSON file says, else as they are stored, underscores as spaces.

    Raises:
        UserError: the file cannot be read, or lacks one.
    """
    if file is None:
        return tuple(name.replace("_", " ").strip() for name in classes)
    where = located(dataset, file)
    try:
        names = json.loads(read_bytes(where))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"data.names={file} cannot be read as JSON: {error}.") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f'data.names={file} must hold one class name for each folder: {{"n01440764": "tench", …}}.')
    missing = [name for name in classes if name not in names]
    if missing:
        raise UserError(f"data.names={file} lacks a name for {len(missing)} classes: {shown(missing)}.")
    return tuple(names[name] for name in classes)


def _folders(dataset: str, given: str | None, field: str) -> tuple[dict[str, Split], list[str]]:
    path = located(dataset, given)
    folders = part_folders(path) if path.is_dir() else {}
    files = {part: class_files(folder, path, field) for part, folder in folders.items()}
    classes = sorted({name for found in files.values() for name in found})
    if not classes:
        form = SHOWN[field]
        captioned = " Images with captions in a CSV or JSONL file are data=image_text." if field == "images" else ""
        raise UserError(
            f"data '{dataset}': '{path}' has no folder for each class. Expected: <class>/{form}, or"
            f" train/<class>/{form}, val/<class>/{form} and test/<class>/{form}. Found: {entries(path)}.{captioned}"
        )
    labels = {name: label for label, name in enumerate(classes)}
    return {part: folder_split(dataset, part, folders[part], files[part], labels, field) for part in folders}, classes


def _tables(dataset: str, path: str | None, field: str) -> tuple[dict[str, Split], list[str]]:
    parts: dict[str, Split] = {}
    names: dict[str, tuple[str, ...]] = {}
    folder = folder_of(path)
    for part, table in read_tables(dataset, path).items():
        parts[part], names[part] = labelled(dataset, part, table, folder, field)
    if len(set(names.values())) != 1 or not all(names.values()):
        told = "; ".join(f"{part}: {shown(found)}" for part, found in names.items())
        raise UserError(
            f"data '{dataset}': the class names in the parts' label columns must be there and the same. Found: {told}."
        )
    return parts, list(next(iter(names.values())))
