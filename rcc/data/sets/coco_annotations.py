"""COCO's own caption files, captions_train2017.json and the like: images and annotations, joined by the images' ids.

{"images": [{"id", "file_name"}, …], "annotations": [{"image_id", "caption"}, …]}, Lin et al. (2014).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rcc.data.files.caption_files import Found
from rcc.data.files.columns import sentences
from rcc.data.files.location import WHOLE, official_part
from rcc.errors import UserError

PREFIX = "captions_"


def annotation_files(path: Path) -> list[Path]:
    """The caption files at `path`: itself, or those in the folder or in its annotations/; none where there is none."""
    if path.is_file():
        return [path] * (path.suffix == ".json" and path.stem.startswith(PREFIX))
    return [file for place in (path, path / "annotations") for file in sorted(place.glob(f"{PREFIX}*.json"))]


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


def _of_file(dataset: str, file: Path) -> dict[str, list[str]]:
    folder = file.stem.removeprefix(PREFIX)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {image["id"]: os.path.join(folder, image["file_name"]) for image in content["images"]}
        captions: dict[str, list[str]] = {name: [] for name in names.values()}
        for written in sorted(content["annotations"], key=lambda written: written["id"]):
            captions[names[written["image_id"]]] += sentences(written["caption"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"data '{dataset}': '{file}' is not laid out as COCO's captions ({type(error).__name__}: {error})."
            ' Expected: {"images": [{"id": …, "file_name": …}],'
            ' "annotations": [{"id": …, "image_id": …, "caption": …}]}.'
        ) from error
    return captions
