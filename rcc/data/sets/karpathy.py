"""Read the caption files of Karpathy and Fei-Fei (2015), whose parts COCO, Flickr30k and Flickr8k results use.

dataset_<name>.json: {"images": [{"filename", "filepath" (COCO), "split", "sentences": [{"raw"}, …]}, …]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcc.data.files.caption_files import Found
from rcc.data.files.columns import sentences
from rcc.data.files.location import WHOLE, entries, official_part
from rcc.errors import UserError


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
    try:
        images = json.loads(file.read_text(encoding="utf-8"))["images"]
        found: Found = {}
        for image in images:
            part = found.setdefault(_part(file, image), {})
            part[os.path.join(image.get("filepath", ""), image["filename"])] = sentences(image["sentences"])
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"data '{dataset}': '{file}' is not laid out as a Karpathy caption file ({type(error).__name__}: {error})."
            ' Expected: {"images": [{"filename": …, "split": "train", "sentences": [{"raw": …}]}]}.'
        ) from error


def image_folder(dataset: str, path: Path, captions: Mapping[str, Mapping[str, Any]], given: str | None) -> Path:
    """The folder that the captions' file names start from: `given`, else the one at or below `path` that has the first
    of them.

    Raises:
        UserError: none has it.
    """
    root = path if path.is_dir() else path.parent
    if given is not None:
        folders = [Path(given).expanduser()]
    else:
        folders = [root, *sorted(entry for entry in root.iterdir() if entry.is_dir())]
    # A few from each part, since any one may be missing.
    first = [file for files in captions.values() for file in list(files)[:8]]
    for folder in folders:
        if any((folder / file).is_file() for file in first):
            return folder
    raise UserError(
        f"data '{dataset}': the images of the captions, such as '{first[0] if first else '…'}', are not in"
        f" {' or '.join(repr(str(folder)) for folder in folders[:4])}. '{root}' holds {entries(root)}. Say where they"
        " are with data.images=<folder>."
    )


def _part(file: Path, image: Mapping[str, Any]) -> str:
    part = official_part(image["split"])
    if part == WHOLE:
        raise ValueError(f"the split '{image['split']}' is none of train, restval, val, test")
    return part
