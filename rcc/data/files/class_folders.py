"""Read folders of images or sounds, one for each class: the layout of ImageNet and of most home-made sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rcc.atomic import reading
from rcc.data.files.images import EncodedImages
from rcc.data.files.location import IMAGE_SUFFIXES, SOUND_SUFFIXES, ends_as, lies_in, shown
from rcc.data.files.sounds import EncodedSounds
from rcc.data.splits import Split
from rcc.errors import UserError

SUFFIXES = {"images": IMAGE_SUFFIXES, "audio": SOUND_SUFFIXES}
"""By which a file is of a field."""


def class_files(folder: Path, within: Path, field: str = "images") -> dict[str, list[str]]:
    """The files of a field below each sub-folder, sorted, by the sub-folder's name. No file is opened.

    Args:
        within: the folder of the data, out of which no link is followed.
        field: 'images' or 'audio'.

    Raises:
        UserError: such a link.
    """
    with reading(folder), os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if os.path.isdir(entry) and not entry.name.startswith("."))
    for name in names:
        _refuse_way_out(folder / name, within)
    return {name: sorted(_files(folder / name, within, SUFFIXES[field])) for name in names}


def folder_split(
    dataset: str,
    part: str,
    folder: Path,
    files: Mapping[str, Sequence[str]],
    labels: Mapping[str, int],
    field: str = "images",
) -> Split:
    """The files of each class as a split, in the order of the labels.

    Raises:
        UserError: a class folder without a file.
    """
    kind = "image" if field == "images" else "sound"
    empty = [name for name, paths in files.items() if not paths]
    if empty:
        raise UserError(
            f"data '{dataset}', {part}: {len(empty)} class folders of '{folder}' hold no {kind}: {shown(empty)}."
            f" {kind.capitalize()}s are files that end in {', '.join(sorted(SUFFIXES[field]))}; remove the"
            " empty folders or fill them."
        )
    ordered = sorted(files, key=labels.__getitem__)
    paths = [path for name in ordered for path in files[name]]
    counts = [len(files[name]) for name in ordered]
    of = np.repeat(np.array([labels[name] for name in ordered], np.int64), counts)
    if field == "images":
        return Split(part, EncodedImages.of_files(paths), labels=of)
    return Split(part, labels=of, audio=EncodedSounds.of_files(paths))


def a_few_of_each(split: Split, per_class: int | None, seed: int) -> Split:
    """At most `per_class` items of each class, chosen by the seed; all of them for None.

    Raises:
        UserError: fewer than one.
    """
    if per_class is None:
        return split
    if type(per_class) is not int or per_class < 1:
        raise UserError(f"data: per_class is {per_class}; it must be a whole number ≥ 1, or null for all items.")
    assert split.labels is not None
    order = np.random.default_rng(seed).permutation(len(split))
    by_class = order[np.argsort(split.labels[order], kind="stable")]
    sorted_labels = split.labels[by_class]
    place = np.arange(len(by_class)) - np.searchsorted(sorted_labels, sorted_labels)
    return split.subset(np.sort(by_class[place < per_class]))


def _files(folder: Path, within: Path, suffixes: frozenset[str]) -> Iterator[str]:
    waiting = [str(folder)]
    while waiting:
        where = waiting.pop()
        with reading(Path(where)), os.scandir(where) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif ends_as(entry.name, suffixes):
                    if entry.is_symlink():  # asked of the entry, which knows: a set may have a million files
                        _refuse_way_out(Path(entry.path), within)
                    yield entry.path


def _refuse_way_out(place: Path, within: Path) -> None:
    if not lies_in(within, place):
        raise UserError(
            f"'{place}' is a link that does not end in '{within}', and is not followed. Put the files there, or give"
            " the folder that holds them as data.path."
        )
