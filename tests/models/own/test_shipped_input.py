"""Preprocessing as networks ship it: timm's config, torchvision's transforms, transformers' processor file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from toys.networks import ResNet
from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

from rcc.errors import UserError
from rcc.models.own.image_input import ImageInput
from rcc.models.own.shipped_input import shipped_input

TIMM = {
    "input_size": (3, 24, 24), "crop_pct": 0.75, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (1, 1, 1),
}  # fmt: skip
READ = {
    "channels": 3, "size": 24, "resize": 32, "mean": (0.5, 0.5, 0.5), "std": (1, 1, 1), "interpolation": "bicubic",
}  # fmt: skip


@dataclass
class Config:
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def test_an_attribute_of_the_network_comes_first_and_may_be_a_dataclass(tmp_path: Path) -> None:
    network = ResNet()
    assert shipped_input(network, tmp_path) == ({}, "")
    network.default_cfg = TIMM
    assert shipped_input(network, tmp_path) == (READ, "default_cfg of the network")
    network.pretrained_cfg = Config((1, 8, 8), (0.1,), (0.3,))
    expected = {"channels": 1, "size": 8, "mean": (0.1,), "std": (0.3,)}
    assert shipped_input(network, None) == (expected, "pretrained_cfg of the network")


def test_torchvisions_transforms_are_read() -> None:
    network = ResNet()
    network.transforms = SimpleNamespace(
        crop_size=[24], resize_size=[32], mean=[0.4] * 3, std=[0.2] * 3, interpolation=SimpleNamespace(value="bilinear")
    )
    found, where = shipped_input(network, None)
    assert found == {"size": 24, "resize": 32, "mean": [0.4] * 3, "std": [0.2] * 3, "interpolation": "bilinear"}
    assert where == "transforms of the network"


@pytest.mark.parametrize("content", [TIMM, {"architecture": "tiny", "pretrained_cfg": TIMM}])
def test_timms_config_beside_the_weights_is_read(content: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    found, where = shipped_input(ResNet(), tmp_path)
    assert ImageInput(**found) == ImageInput(24, 32, 3, [0.5] * 3, [1] * 3, "bicubic")
    assert where == str(tmp_path / "config.json")


@pytest.mark.parametrize(
    "processor",
    [
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24}),
        ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.25] * 3),
        ViTImageProcessorPil(size={"height": 32, "width": 32}, do_rescale=False),
        ViTImageProcessorPil(size={"height": 32, "width": 32}, do_normalize=False),
    ],
)
def test_a_processors_file_makes_the_very_pixels_of_the_processor(processor: object, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    found, where = shipped_input(ResNet(), tmp_path)
    expected = processor(images=image, return_tensors="pt")["pixel_values"]  # type: ignore[operator]
    torch.testing.assert_close(ImageInput(**found).pixels([image]), expected.float(), atol=1e-4, rtol=1e-5)
    assert where == str(tmp_path / "preprocessor_config.json")


def test_files_of_other_kinds_say_nothing_and_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    (tmp_path / "preprocessor_config.json").write_text('{"feature_size": 80}')
    assert shipped_input(ResNet(), tmp_path) == ({}, "")
    (tmp_path / "config.json").write_text(json.dumps({**TIMM, "input_size": [3, 24, 32]}))
    with pytest.raises(UserError, match=r"ships input_size \[24, 32\].*say model.image_size"):
        shipped_input(ResNet(), tmp_path)
