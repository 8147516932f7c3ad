"""Preparation by table: the same bits as the processor's own, whatever its settings and the image's sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    ConvNextImageProcessorPil,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)

from rcc.models.transformers import pixels
from rcc.models.transformers.pixels import prepared

SIDE = {"height": 40, "width": 40}
PROCESSORS = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=SIDE),
    "clip that pads": CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 41, "width": 30}),
    "clip without a mean": CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=SIDE, do_normalize=False),
    "clip without a resize": CLIPImageProcessorPil(do_resize=False, crop_size=SIDE),
    "vit": ViTImageProcessorPil(size=SIDE),
    "siglip": SiglipImageProcessorPil(size={"height": 32, "width": 48}),
    "blip": BlipImageProcessorPil(size=SIDE, image_mean=[0.1, 0.5, 0.9], image_std=[0.3, 0.2, 0.7]),
}


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def own(processor: Any, *images: Image.Image) -> torch.Tensor:
    return processor(images=list(images), return_tensors="pt")["pixel_values"]


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(PROCESSORS)), width=st.integers(1, 130), height=st.integers(1, 130),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_p8_pixels_are_those_of_the_processor_to_the_bit(name: str, width: int, height: int, seed: int) -> None:
    processor, picture = PROCESSORS[name], image(width, height, seed)
    found = prepared(processor, [picture])
    assert torch.equal(found, own(processor, picture))
    assert found.dtype == torch.float32


def test_a_batch_is_its_images_in_order() -> None:
    images = [image(50, 60, seed) for seed in range(3)]
    assert torch.equal(prepared(PROCESSORS["clip"], images), own(PROCESSORS["clip"], *images))


def test_a_processor_that_is_set_anew_is_heeded_and_its_file_stays_as_it_was() -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=SIDE)
    before, content = prepared(processor, [image(50, 60)]), processor.to_json_string()
    processor.image_mean = [0.0, 0.0, 0.0]
    after = prepared(processor, [image(50, 60)])
    assert not torch.equal(before, after)
    assert torch.equal(after, own(processor, image(50, 60)))
    processor.image_mean = CLIPImageProcessorPil().image_mean
    assert processor.to_json_string() == content


def test_a_processor_that_does_something_else_is_called_itself() -> None:
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.9)
    assert torch.equal(prepared(processor, [image(50, 60)]), own(processor, image(50, 60)))
    assert pixels._Plan.of(processor) is None
    assert pixels._Plan.of(CLIPImageProcessorPil(do_pad=True, pad_size=SIDE)) is None
    assert pixels._Plan.of(PROCESSORS["vit"]) is pixels._Plan.of(PROCESSORS["vit"])
