"""ImageNet (ILSVRC 2012): 1,000 classes, one folder each, named by its WordNet id (Russakovsky et al., 2015)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rcc.data.cutting import Cut, cut
from rcc.data.files.class_folders import a_few_of_each, class_files, folder_split
from rcc.data.files.columns import labelled
from rcc.data.files.location import entries, located, part_folders, shown
from rcc.data.files.tables import folder_of, has_tables, read_tables
from rcc.data.sets.class_lists import class_names, templates, wnids
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError

DATASET = "imagenet"
CLASSES = ("all", "present")


def load_imagenet(
    path: str | None = None,
    per_class: int | None = None,
    classes: str = "all",
    train: int | None = 0,
    calibration: int | None = 256,
    selection: int | None = 500,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Test from the validation part, on which results are published; the rest from the training part, or, where only
    one part is there, from what test leaves of it. All stratified.

    Args:
        path: a folder with train/<wnid>/ and val/<wnid>/, either of them or the <wnid>/ folders alone; or parquet files
            or a name on the hub.
        per_class: at most that many images of each class of each part, chosen by the seed; None: all.
        classes: 'all' 1,000 are told apart, or those 'present' alone, as for a subset of ImageNet.
        train, calibration, selection, test: images; None for all that is left of the part.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: a folder that is not laid out so, an unknown WordNet id, or fewer images than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    problems = Problems(f"data '{DATASET}'")
    problems.choice("classes", str(classes), CLASSES)
    problems.done()
    parts = _tables(path) if has_tables(path) else _folders(located(DATASET, path))
    parts = {part: a_few_of_each(split, per_class, seed) for part, split in parts.items()}
    names = class_names(DATASET)
    if classes == "present":
        parts, names = only_present(parts, names)
    return cut(DATASET, parts, how, names, templates(DATASET))


def only_present(parts: Mapping[str, Split], names: Sequence[str]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The parts with labels counted among the classes that have images, and the names of those."""
    present = np.unique(np.concatenate([split.labels for split in parts.values() if split.labels is not None]))
    counted = {
        part: Split(split.name, split.images, labels=np.searchsorted(present, split.labels))
        for part, split in parts.items()
        if split.labels is not None
    }
    return counted, tuple(names[label] for label in present)


def _folders(path: Path) -> dict[str, Split]:
    known = {wnid: label for label, wnid in enumerate(wnids())}
    if not path.is_dir():
        raise _another_shape(path)
    parts = {}
    for part, folder in part_folders(path).items():
        files = class_files(folder, path)
        if not files or not any(re.fullmatch(r"n\d{8}", name) for name in files):
            raise _another_shape(folder)
        unknown = [name for name in files if name not in known]
        if unknown:
            raise UserError(
                f"data '{DATASET}': {len(unknown)} of {len(files)} folders in '{folder}' are not among the 1,000"
                f" WordNet ids of ILSVRC 2012: {shown(unknown)}. Remove them, or take data=image_folder, which goes by"
                " the folders' own names."
            )
        parts[part] = folder_split(DATASET, part, folder, files, known)
    return parts


def _tables(path: str | None) -> dict[str, Split]:
    count, parts = len(wnids()), {}
    problems = Problems(f"data '{DATASET}'")
    folder = folder_of(path)
    for part, table in read_tables(DATASET, path).items():
        # The hub's test part has the label −1 throughout: its labels were never published.
        if part == "test":
            continue
        parts[part], stored = labelled(DATASET, part, table, folder)
        problems.check(
            len(stored) in (0, count),
            f"part '{part}' has {len(stored)} classes ({shown(stored[:3])}), not the {count} of ILSVRC 2012.",
        )
    problems.done()
    return parts


def _another_shape(folder: Path) -> UserError:
    return UserError(
        f"data '{DATASET}': '{folder}' is not laid out as ImageNet. Expected: train/<wnid>/*.JPEG and"
        " val/<wnid>/*.JPEG, either of them, or the <wnid>/ folders themselves, where <wnid> is a WordNet id such as"
        f" n01440764. Found: {entries(folder)}. The validation images as they are published, in one folder, must be"
        " sorted into their classes first; folders named by anything else are data=image_folder."
    )
