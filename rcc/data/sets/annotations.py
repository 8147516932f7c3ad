"""Read the caption files of COCO, Flickr30k and Flickr8k: those of Karpathy and Fei-Fei, and COCO's own.

Karpathy and Fei-Fei (2015), whose parts most results use, in dataset_<name>.json:
{"images": [{"filename", "filepath" (COCO), "split", "sentences": [{"raw"}, …]}, …]}

Lin et al. (2014), captions_train2017.json and the like, images and annotations joined by the images' ids:
{"images": [{"id", "file_name"}, …], "annotations": [{"image_id", "caption"}, …]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcc.data.files.caption_files import Found
from rcc.data.files.location import WHOLE, entries, official_part
from rcc.data.files.records import NOT_LAID_OUT, reason, sentences, taken
from rcc.errors import UserError, abridged, path_fault
from rcc.limits import expanded, read_bytes

OWN = "captions_"  # how the names of COCO's own files begin


def karpathy_file(path: Path) -> Path | None:
    """The caption file at `path`: itself, or the first dataset….json in the folder or in its annotations/, or None."""
    if path.is_file():
        return path if path.suffix == ".json" else None
    return next((file for place in (path, path / "annotations") for file in sorted(place.glob("dataset*.json"))), None)


def read_karpathy(dataset: str, file: Path) -> Found:
    """By part, then by image file ('val2014/COCO_….jpg'; a bare name for Flickr): its captions.

    Raises:
        UserError: not such a file.
    """
    found: Found = {}
    try:
        for number, image in enumerate(taken(json.loads(read_bytes(file)), "images", list, "the file")):
            where = f"image {number}"
            name = taken(image, "filename", str, where)
            place = taken(image, "filepath", str, where) if "filepath" in image else ""
            written = sentences(taken(image, "sentences", list, where), f"'sentences' of {where}")
            found.setdefault(_part(taken(image, "split", str, where)), {})[os.path.join(place, name)] = written
    except NOT_LAID_OUT as error:
        raise UserError(
            f"data '{dataset}': '{file}' is not laid out as a Karpathy caption file ({reason(error)})."
            ' Expected: {"images": [{"filename": …, "split": "train", "sentences": [{"raw": …}]}]}.'
        ) from error
    return found


def annotation_files(path: Path) -> list[Path]:
    """The caption files at `path`: itself, or those in the folder or in its annotations/; none where there is none."""
    if path.is_file():
        return [path] * (path.suffix == ".json" and path.stem.startswith(OWN))
    return [file for place in (path, path / "annotations") for file in sorted(place.glob(f"{OWN}*.json"))]


def read_annotations(dataset: str, files: Sequence[Path]) -> Found:
    """By part, then by image file ('val2017/000000000139.jpg'): its captions, in the order of their ids.

    Raises:
        UserError: not such a file, captions of an image it does not list, or two files of one part.
    """
    found: Found = {}
    for file in files:
        part = official_part(file.stem)
        if part == WHOLE or part in found:
            raise UserError(
                f"data '{dataset}': '{file.name}' is of no part, or of one that another file is of:"
                f" {', '.join(other.name for other in files)}. Keep one file of train and one of val, of one year."
            )
        found[part] = _of_file(dataset, file)
    return found


def image_folder(dataset: str, path: Path, captions: Mapping[str, Mapping[str, Any]], given: str | None) -> Path:
    """The folder that the captions' file names start from: `given`, else the one at or below `path` that has the first
    of them.

    Raises:
        UserError: none has it.
    """
    root = path if path.is_dir() else path.parent
    if given is not None:
        folders = [expanded("data.images", given)]
    else:
        folders = [root, *sorted(entry for entry in root.iterdir() if entry.is_dir())]
    # A few from each part, since any one may be missing.
    first = [file for files in captions.values() for file in list(files)[:8]]
    for folder in folders:
        if any(not path_fault(file) and os.path.isfile(folder / file) for file in first):
            return folder
    raise UserError(
        f"data '{dataset}': the images of the captions, such as '{abridged(first[0]) if first else '…'}', are not in"
        f" {' or '.join(repr(str(folder)) for folder in folders[:4])}. '{root}' holds {entries(root)}. Say where they"
        " are with data.images=<folder>."
    )


def _part(split: str) -> str:
    part = official_part(split)
    if part == WHOLE:
        raise ValueError(f"the split '{abridged(split)}' is none of train, restval, val, test")
    return part


def _of_file(dataset: str, file: Path) -> dict[str, list[str]]:
    folder = file.stem.removeprefix(OWN)
    try:
        content = json.loads(read_bytes(file))
        names = {}
        for number, image in enumerate(taken(content, "images", list, "the file")):
            where = f"image {number}"
            names[taken(image, "id", int, where)] = os.path.join(folder, taken(image, "file_name", str, where))
        captions: dict[str, list[str]] = {name: [] for name in names.values()}
        ordered = []
        for number, written in enumerate(taken(content, "annotations", list, "the file")):
            where = f"annotation {number}"
            of = taken(written, "image_id", int, where)
            if of not in names:
                raise ValueError(f"{where} is of the image {of}, which the file does not list")
            texts = sentences(taken(written, "caption", str, where), f"'caption' of {where}")
            ordered.append((taken(written, "id", int, where), names[of], texts))
        for _, name, texts in sorted(ordered):
            captions[name] += texts
    except NOT_LAID_OUT as error:
        raise UserError(
            f"data '{dataset}': '{file}' is not laid out as COCO's captions ({reason(error)})."
            ' Expected: {"images": [{"id": …, "file_name": …}],'
            ' "annotations": [{"id": …, "image_id": …, "caption": …}]}.'
        ) from error
    return captions
