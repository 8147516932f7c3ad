"""Pixels of a network without a processor, against those of a processor with the same settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessorPil

from rcc.errors import UserError
from rcc.models.own.image_input import ImageInput


@given(
    width=st.integers(8, 60),
    height=st.integers(8, 60),
    size=st.integers(4, 24),
    more=st.integers(0, 12),
    interpolation=st.sampled_from([("nearest", 0), ("bilinear", 2), ("bicubic", 3), ("lanczos", 1)]),
)
def test_pixels_are_those_of_a_processor_with_the_same_settings(
    width: int, height: int, size: int, more: int, interpolation: tuple[str, int]
) -> None:
    values = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    ours = ImageInput(size, size + more, 3, mean, std, interpolation[0]).pixels([values])
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size + more}, crop_size={"height": size, "width": size}, resample=interpolation[1],
        image_mean=mean, image_std=std,
    )  # fmt: skip
    theirs = processor(images=Image.fromarray(values), return_tensors="pt")["pixel_values"]
    assert ours.shape == (1, 3, size, size)
    # Which of two middle pixels an odd margin leaves out is a matter of convention.
    if all((max(size + more, side * (size + more) // min(width, height)) - size) % 2 == 0 for side in (width, height)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_grey_images_have_one_channel_and_imagenets_mean_over_the_colours() -> None:
    image = Image.new("RGB", (10, 6), (255, 255, 255))
    pixels = ImageInput(4, channels=1).pixels(image)
    assert pixels.shape == (1, 1, 4, 4)
    mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    torch.testing.assert_close(pixels, torch.full((1, 1, 4, 4), (1 - mean) / std))


def test_image_options_that_cannot_be_are_refused_at_once() -> None:
    with pytest.raises(UserError) as error:
        ImageInput(size=32, resize=16, channels=2, mean=[0.5], std=[0.0, 1.0], interpolation="cubic")
    assert len(error.value.problems) == 5
    with pytest.raises(UserError, match="std is"):
        ImageInput(std=[0.5, 0.5, -1.0])
