"""What all models of transformers share: raw inputs and tensors taken or refused, skeletons, dtypes, copies."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper

TEXTS = ["a photo of the digit seven", "a handwritten two", "zebra"]


@pytest.fixture
def images(digits: Splits) -> list[np.ndarray]:
    return [np.asarray(image) for image in list(digits.test.images[0:3])]


def test_a_text_longer_than_the_context_is_cut(clip: CLIPWrapper) -> None:
    assert clip.prepare(texts=["seven " * 40])["input_ids"].shape == (1, 16)


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 32, 32), torch.zeros(1, 3, 31, 32), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)]
)
def test_a_pixel_tensor_of_another_shape_or_kind_is_refused(clip: CLIPWrapper, pixels: Tensor) -> None:
    with pytest.raises(UserError, match=r"floating point of shape \[B, 3, 32, 32\]"):
        clip.encode_image(pixels)


@pytest.mark.parametrize("tokens", [torch.zeros(4, dtype=torch.int64), torch.zeros(1, 4), torch.zeros(1, 17).long()])
def test_a_token_tensor_of_another_shape_or_kind_is_refused(clip: CLIPWrapper, tokens: Tensor) -> None:
    with pytest.raises(UserError, match=r"integers of shape \[B, L\] with L ≤ 16"):
        clip.encode_text(tokens)


def test_images_of_another_kind_are_named(clip: CLIPWrapper) -> None:
    with pytest.raises(UserError) as error:
        clip.prepare([np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), "seven.png"])
    assert [problem.partition(";")[0] for problem in error.value.problems] == [
        "images: item 0 is float32 of shape (4, 4, 3)",
        "images: item 2 is str",
    ]


def test_nothing_to_prepare_is_refused(clip: CLIPWrapper) -> None:
    for arguments in ({}, {"images": []}, {"texts": []}):
        with pytest.raises(UserError):
            clip.prepare(**arguments)


def test_a_skeleton_holds_no_weight_and_gives_the_same_bits_once_they_are_assigned(
    clip: CLIPWrapper, clip_checkpoint: Path, images: list[np.ndarray]
) -> None:
    skeleton = CLIPWrapper.skeleton(clip_checkpoint)
    assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    assert not any(buffer.is_meta for buffer in skeleton.module.buffers())
    assert not skeleton.module.training
    skeleton.module.load_state_dict(load_file(clip_checkpoint / "model.safetensors"), assign=True)
    batch = clip.prepare(images, TEXTS)
    again = skeleton.prepare(images, TEXTS)
    assert all(torch.equal(again[key], value) for key, value in batch.items())
    for name, expected in clip.outputs(batch).items():
        assert torch.equal(skeleton.outputs(again)[name], expected)


def test_a_copy_does_not_share_weights(clip: CLIPWrapper) -> None:
    copy = deepcopy(clip)
    copy.module.visual_projection.weight.data.zero_()
    assert clip.module.visual_projection.weight.abs().sum() > 0


def test_the_dtype_asked_for_is_the_dtype_computed_in(clip_checkpoint: Path, images: list[np.ndarray]) -> None:
    clip = CLIPWrapper.load(clip_checkpoint, device="cpu", dtype="bfloat16")
    assert clip.dtype is torch.bfloat16
    assert clip.encode_image(images).dtype is torch.bfloat16


def test_texts_as_long_as_the_image_has_patches_get_one_more_place_of_padding(
    clip: CLIPWrapper, images: list[np.ndarray]
) -> None:
    clip.module.config.vision_config.patch_size = 16  # 2 × 2 patches and the class token: 5 places
    clip.module.config.vision_config.image_size = 32
    alone = clip.prepare(texts=["one two three"])
    assert alone["input_ids"].shape == (1, 5)
    both = clip.prepare(images[:1], ["one two three"])
    assert both["input_ids"].tolist() == [[*alone["input_ids"][0].tolist(), clip.tokenizer.pad_token_id]]
    assert both["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0]]
    assert clip.prepare(images[:1], ["one two"])["input_ids"].shape == (1, 4)


def test_sizes_and_dtype_are_those_of_the_config_and_the_weights(clip: CLIPWrapper) -> None:
    assert (clip.pixel_shape, clip.image_size, clip.context, clip.dtype) == ((3, 32, 32), 32, 16, torch.float32)
    assert clip.reads == ("images", "texts")


def test_texts_that_are_no_strings_are_refused(clip: CLIPWrapper) -> None:
    with pytest.raises(UserError, match=r"texts must be one or more strings; got \['a', 7\]"):
        clip.prepare(texts=["a", 7])
