"""Stored pixels: what the model's own processor makes of the same images, to the bit, and within the memory allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rcc.data.files.images import ArrayImages
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.pixels import Pixels, middle_square


def noise(count: int, height: int, width: int) -> ArrayImages:
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (20, 30)])
def test_the_values_are_those_of_the_processor_to_the_bit(clip: CLIPWrapper, size: tuple[int, int]) -> None:
    images = noise(5, *size)
    chosen = torch.tensor([3, 0, 4])
    expected = clip.prepare(images=[images[int(index)] for index in chosen])["pixel_values"]
    assert torch.equal(Pixels(clip, images, 32, 10**6)(chosen), expected)


def test_colours_are_scaled_each_in_its_own_way(clip: CLIPWrapper) -> None:
    clip.image_processor.image_mean, clip.image_processor.image_std = [0.48, 0.45, 0.40], [0.26, 0.27, 0.28]
    images = noise(4, 32, 32)
    expected = clip.prepare(images=images.array)["pixel_values"]
    pixels = Pixels(clip, images, 32, 10**6)
    assert torch.equal(pixels(torch.arange(4)), expected)
    black = clip.prepare(images=Image.new("RGB", (32, 32)))["pixel_values"][0, :, 0, 0]
    assert torch.equal(pixels.black, black)


def test_they_are_kept_as_bytes(clip: CLIPWrapper) -> None:
    pixels = Pixels(clip, noise(7, 50, 60), 40, 7 * 40 * 40 * 3)
    assert pixels.stored.nbytes == 7 * 40 * 40 * 3
    assert pixels(torch.tensor([6])).shape == (1, 3, 40, 40)


def test_more_than_the_memory_allowed_is_refused_with_what_helps(clip: CLIPWrapper) -> None:
    with pytest.raises(UserError, match=r"7 images of 40 × 40 pixels take 0.03 MB .* fewer .*memory_megabytes"):
        Pixels(clip, noise(7, 50, 60), 40, 7 * 40 * 40 * 3 - 1)


def test_the_middle_square_keeps_the_middle() -> None:
    image = Image.new("RGB", (90, 30))
    image.paste((255, 0, 0), (30, 0, 60, 30))
    assert (middle_square(image, 30) == [255, 0, 0]).all()
    assert middle_square(image.transpose(Image.Transpose.ROTATE_90), 12).shape == (12, 12, 3)
