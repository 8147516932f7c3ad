"""The loaders on published data, where the environment variable RCC_DATA names a folder that holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from rcc.data.registry import load_data

HERE = Path(os.environ.get("RCC_DATA", "/nowhere"))
CASES: Mapping[str, tuple[str, dict[str, int], tuple[int, int, int, int]]] = {
    "flickr8k": ("flickr8k", {}, (5744, 256, 1000, 500)),
    "cifar10": ("cifar10", {}, (48488, 512, 1000, 5000)),
    "imagenet": ("imagenet_sample", {}, (0, 256, 500, 244)),
    "conceptual_captions": ("cc12m_32", {"calibration": 8, "selection": 8, "test": 8}, (8, 8, 8, 8)),
    "image_text": ("cc12m_32", {"calibration": 8, "selection": 8, "test": 8}, (8, 8, 8, 8)),
    "image_folder": ("imagenet_sample", {}, (0, 256, 500, 244)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_published_set_loads_with_its_defaults(name: str) -> None:
    folder, options, sizes = CASES[name]
    if not (HERE / folder).is_dir():
        pytest.skip(f"RCC_DATA names no folder with {folder}")
    splits = load_data(name, path=str(HERE / folder), unreadable="skip", **options)
    assert tuple(splits.sizes().values()) == sizes
    assert splits.notes == ()
    assert splits.test.images[0].mode == "RGB"
    assert len(splits.test.texts) == len(splits.test)
