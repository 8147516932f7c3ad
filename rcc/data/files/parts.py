"""The official parts of a data set as files and folders name them: train, validation, test."""

from __future__ import annotations

import os
import re
from pathlib import Path

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


def official_part(name: str) -> str:
    """The part a name speaks of: 'validation' for 'captions_val2017' or 'Validation_GCC', 'all' where it speaks of
    none."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((PARTS[word] for word in words if word in PARTS), WHOLE)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name; hidden files, such as macOS leaves beside others, are none."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def part_folders(path: Path) -> dict[str, Path]:
    """The sub-folders that are parts, by part; or `path` itself, undivided."""
    found = {PARTS[entry.name.lower()]: entry for entry in sorted(path.iterdir()) if entry.name.lower() in PARTS}
    return {part: entry for part, entry in found.items() if entry.is_dir()} or {WHOLE: path}
