"""Raw images of the kinds users have; thin ones are refused before a resize makes them huge."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcc.data.files.images import EncodedImages
from rcc.errors import UserError
from rcc.limits import limits
from rcc.models.images import pictures
from rcc.models.own.image_input import ImageInput
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.pixels import Pixels

THIN = r"'.*thin\.png' of 1 × 1000000 pixels would become 32 × 32000000 when .*limits\.image_pixels"


@pytest.fixture
def thin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncodedImages:
    monkeypatch.setattr(limits, "image_aspect", 10**6)
    buffer = io.BytesIO()
    Image.new("1", (1, 10**6)).save(buffer, "PNG")
    (tmp_path / "thin.png").write_bytes(buffer.getvalue())
    return EncodedImages.of_files([tmp_path / "thin.png"])


def test_a_thin_image_is_refused_by_its_file_by_all_that_resize_its_shorter_side(
    thin: EncodedImages, clip: CLIPWrapper
) -> None:
    for resize in (
        lambda: clip.prepare(images=list(thin)),
        lambda: ImageInput(size=32).pixels(list(thin)),
        lambda: Pixels(clip, thin, 32, 10**6),
    ):
        with pytest.raises(UserError, match=THIN):
            resize()


def test_an_array_is_named_by_its_place_and_may_be_as_thin_as_the_limit_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = [np.zeros((4, 4, 3), np.uint8), np.zeros((3, 100, 3), np.uint8)]
    monkeypatch.setattr(limits, "image_pixels", 9 * 300)
    assert [image.size for image in pictures(images, 9)] == [(4, 4), (100, 3)]
    with pytest.raises(UserError, match=r"'item 1' of 100 × 3 pixels would become 10 × 334"):
        pictures(images, 10)
    assert len(pictures(images)) == 2


def test_an_image_without_pixels_is_told() -> None:
    with pytest.raises(UserError, match="'item 0' has 0 × 5 pixels"):
        pictures(Image.new("RGB", (0, 5)))
