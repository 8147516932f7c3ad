"""Load images from one folder a class, or from parquet files with labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rcc.data.cutting import Cut, cut
from rcc.data.files.class_folders import a_few_of_each, class_files, folder_split
from rcc.data.files.columns import labelled
from rcc.data.files.location import entries, located, part_folders, shown
from rcc.data.files.tables import folder_of, has_tables, read_tables
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.limits import read_bytes

DATASET = "image_folder"
TEMPLATES = ("a photo of a {}.",)


def load_image_folder(
    path: str | None = None,
    names: str | None = None,
    templates: Sequence[str] = TEMPLATES,
    per_class: int | None = None,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = 500,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Classes from the folders' names, parts from train/, val/ and test/ where the folder has them.

    Args:
        path: a folder with <class>/ folders, or with train/<class>/, val/<class>/, test/<class>/; or parquet files or a
            name on the hub, with a column of class labels.
        names: a JSON file of class name by folder name; by default the folder's name, underscores as spaces.
        templates: prompts, each with '{}' where the class name goes.
        per_class: at most that many images of each class of each part, chosen by the seed; None: all.
        train, calibration, selection, test: images; None for all that is left of the part.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: no class folders, a class without an image or a name, or fewer images than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    problems = Problems(f"data '{DATASET}'")
    problems.check(
        len(templates) > 0 and all(isinstance(each, str) and each.count("{}") == 1 for each in templates),
        f"templates are {list(templates)}; give one or more texts that hold '{{}}' once, for the class name.",
    )
    problems.done()
    parts, classes = _tables(path) if has_tables(path) else _folders(located(DATASET, path))
    parts = {part: a_few_of_each(split, per_class, seed) for part, split in parts.items()}
    return cut(DATASET, parts, how, _named(classes, names), templates)


def _folders(path: Path) -> tuple[dict[str, Split], list[str]]:
    folders = part_folders(path) if path.is_dir() else {}
    files = {part: class_files(folder, path) for part, folder in folders.items()}
    classes = sorted({name for found in files.values() for name in found})
    if not classes:
        raise UserError(
            f"data '{DATASET}': '{path}' has no folder for each class. Expected: <class>/*.jpg, or train/<class>/*.jpg,"
            f" val/<class>/*.jpg and test/<class>/*.jpg. Found: {entries(path)}. Images with captions in a CSV or JSONL"
            " file are data=image_text."
        )
    labels = {name: label for label, name in enumerate(classes)}
    return {part: folder_split(DATASET, part, folders[part], files[part], labels) for part in folders}, classes


def _tables(path: str | None) -> tuple[dict[str, Split], list[str]]:
    parts: dict[str, Split] = {}
    names: dict[str, tuple[str, ...]] = {}
    folder = folder_of(path)
    for part, table in read_tables(DATASET, path).items():
        parts[part], names[part] = labelled(DATASET, part, table, folder)
    if len(set(names.values())) != 1 or not all(names.values()):
        told = "; ".join(f"{part}: {shown(found)}" for part, found in names.items())
        raise UserError(
            f"data '{DATASET}': the class names in the parts' label columns must be there and the same. Found: {told}."
        )
    return parts, list(next(iter(names.values())))


def _named(classes: Sequence[str], file: str | None) -> tuple[str, ...]:
    if file is None:
        return tuple(name.replace("_", " ").strip() for name in classes)
    where = located(DATASET, file)
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
