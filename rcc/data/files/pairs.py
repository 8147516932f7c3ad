"""Captions that name image files, joined with the files that are there; what lacks its other half is found first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rcc.atomic import reading
from rcc.data.files.images import EncodedImages
from rcc.data.files.location import inside, is_file, is_image, shown
from rcc.data.splits import Split
from rcc.errors import Problems, UserError, path_fault

UNPAIRED = ("refuse", "skip")

Captions = Mapping[str, Mapping[str, Sequence[str]]]
"""By part, then by image file, relative to the image folder: the captions, in order."""


def check_unpaired(unpaired: str) -> None:
    """Raises:
    UserError: neither 'refuse' nor 'skip'.
    """
    problems = Problems("data")
    problems.choice("unpaired", str(unpaired), UNPAIRED)
    problems.done()


def paired(dataset: str, folder: Path, captions: Captions, unpaired: str) -> tuple[dict[str, Split], tuple[str, ...]]:
    """A split of each part, and notes on what was left out.

    Looked for in the folders that captions speak of: captions whose image is not there, images whose captions are
    blank, and images that no caption speaks of. No image is opened.

    Raises:
        UserError: some of the three exist and `unpaired` is 'refuse'; says how many and names the first. A file that is
            not in `folder` once links are followed.
    """
    with _of_dataset(dataset):
        there = _listed(folder, {file for files in captions.values() for file in files})
    gone = [file for files in captions.values() for file in files if file not in there]
    blank = [file for files in captions.values() for file, texts in files.items() if file in there and not texts]
    silent = sorted(there.difference(*captions.values()))
    found = [
        f"{len(names)} {what}: {shown(names)}"
        for names, what in (
            (gone, f"captioned images are not in '{folder}'"),
            (blank, "images have only blank captions"),
            (silent, f"images in '{folder}' have no caption"),
        )
        if names
    ]
    if unpaired == "refuse":
        problems = Problems(f"data '{dataset}'")
        for told in found:
            problems.check(False, f"{told}. Complete the set, or leave them out with data.unpaired=skip.")
        problems.done()
    parts = {}
    for part, files in captions.items():
        whole = [file for file, texts in files.items() if texts and file in there]
        paths = [os.path.join(folder, file) for file in whole]
        parts[part] = Split(part, EncodedImages.of_files(paths), tuple(tuple(files[file]) for file in whole))
    return parts, tuple(f"{told}; they were left out." for told in found)


@contextmanager
def _of_dataset(dataset: str) -> Iterator[None]:
    """Say whose rows an error is about."""
    try:
        yield
    except UserError as error:
        raise UserError(*(f"data '{dataset}': {problem}" for problem in error.problems)) from error


def _listed(folder: Path, named: set[str]) -> set[str]:
    """The image files in the folders of `named`, relative to `folder`, each as its place and name.

    Raises:
        UserError: one of `named` leads out of the folder, by itself or by a link.
    """
    found = set[str]()
    for file in named:
        if path_fault(file):
            inside(folder, file)  # raises
    for place, file in {os.path.dirname(file): file for file in named}.items():
        where = inside(folder, file).parent
        if not where.is_dir():
            continue
        with reading(where), os.scandir(where) as entries:
            for entry in entries:
                name = os.path.join(place, entry.name)
                if not is_image(entry.name) or not is_file(entry):
                    continue
                if name in named and entry.is_symlink():
                    inside(folder, name)
                found.add(name)
    return found
