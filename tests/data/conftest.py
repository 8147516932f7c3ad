"""Data sets of a few images in the formats they are published in."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_files import captions_of, picture, write_table


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tables are converted into a cache of the tests' own."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="session")
def flickr8k_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 training, 4 validation and 5 test images with five captions each. Read only."""
    folder = tmp_path_factory.mktemp("flickr8k")
    start = 0
    for part, count in (("train", 12), ("validation", 4), ("test", 5)):
        numbers = range(start, start + count)
        columns = {
            "image": [picture(number, "JPEG") for number in numbers],
            "captions": [captions_of(number) for number in numbers],
            "filename": [f"{number}.jpg" for number in numbers],
        }
        write_table(folder / f"{part}.parquet", columns)
        start += count
    return folder
