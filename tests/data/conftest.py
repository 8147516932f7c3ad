"""Data sets of a few images in the formats they are published in."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys.data_sets import write_flickr8k


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache(datasets_cache: None) -> None:
    """For every test of this folder."""


@pytest.fixture(scope="session")
def flickr8k_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 training, 4 validation and 5 test images with five captions each. Read only."""
    return write_flickr8k(tmp_path_factory.mktemp("flickr8k"))
