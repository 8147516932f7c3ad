"""CLIPWrapper: the same numbers as transformers' CLIPModel, units with roles and towers, skeletons, files."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel

from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper

TEXTS = ["a photo of the digit seven", "a handwritten two", "zebra"]


@pytest.fixture
def images(digits: Splits) -> list[np.ndarray]:
    return [np.asarray(image) for image in list(digits.test.images[0:3])]


@pytest.fixture
def reference(clip_checkpoint: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(clip_checkpoint)


def test_similarity_is_the_models_own_logits_per_image(
    clip: CLIPWrapper, reference: CLIPModel, images: list[np.ndarray]
) -> None:
    batch = clip.prepare(images, TEXTS)
    with torch.no_grad():
        expected = reference(**batch).logits_per_image
    found = clip.compute_similarity(clip.encode_image(images), clip.encode_text(TEXTS))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_loss_is_the_models_own_where_no_caption_repeats(
    clip: CLIPWrapper, reference: CLIPModel, images: list[np.ndarray]
) -> None:
    batch = clip.prepare(images, TEXTS)
    expected = reference(**batch, return_loss=True).loss
    torch.testing.assert_close(clip.loss(batch), expected, rtol=1e-5, atol=1e-6)
    assert clip.loss(batch).requires_grad


SHARES = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype=torch.float64)


def shared_loss(clip: CLIPWrapper, batch: dict[str, Tensor]) -> Tensor:
    """The contrastive loss by its formula where pairs 0 and 1 match each other."""
    logits = clip.compute_similarity(*clip.outputs(batch).values()).double()
    rows, columns = -(SHARES * logits.log_softmax(1)).sum(1), -(SHARES * logits.log_softmax(0)).sum(0)
    return (rows.mean() + columns.mean()) / 2


def test_pairs_of_one_label_are_all_positives(clip: CLIPWrapper, images: list[np.ndarray]) -> None:
    batch = clip.prepare(images, TEXTS)
    labelled = clip.loss({**batch, "labels": torch.tensor([4, 4, 2])})
    torch.testing.assert_close(labelled.double(), shared_loss(clip, batch), rtol=1e-5, atol=1e-6)
    assert abs(labelled - clip.loss(batch)) > 1e-4


def test_a_repeated_caption_counts_for_both_its_images_without_labels(
    clip: CLIPWrapper, images: list[np.ndarray]
) -> None:
    batch = clip.prepare(images, [TEXTS[0], TEXTS[0], TEXTS[1]])
    torch.testing.assert_close(clip.loss(batch).double(), shared_loss(clip, batch), rtol=1e-5, atol=1e-6)


def test_forward_gives_what_the_specification_names(clip: CLIPWrapper, images: list[np.ndarray]) -> None:
    assert set(clip.forward(images=images)) == {"image_embeds"}
    assert set(clip.forward(texts=TEXTS)) == {"text_embeds"}
    output = clip.forward(images, TEXTS, return_loss=True)
    assert {name: tuple(tensor.shape) for name, tensor in output.items()} == {
        "image_embeds": (3, 16), "text_embeds": (3, 16), "logits_per_image": (3, 3), "logits_per_text": (3, 3),
        "loss": (),
    }  # fmt: skip
    torch.testing.assert_close(output["loss"], clip.loss(clip.prepare(images, TEXTS)))


def test_forward_refuses_a_loss_without_pairs(clip: CLIPWrapper, images: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match="as many images as texts"):
        clip.forward(images, TEXTS[:2], return_loss=True)
    with pytest.raises(UserError, match="as many images as texts"):
        clip.forward(texts=TEXTS, return_loss=True)


def test_embeddings_are_projected_and_of_length_one(clip: CLIPWrapper, images: list[np.ndarray]) -> None:
    for embeddings in (clip.encode_image(images), clip.encode_text(TEXTS)):
        assert embeddings.shape == (3, 16)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_pil_images_arrays_and_prepared_pixels_give_the_same_embeddings(
    clip: CLIPWrapper, images: list[np.ndarray]
) -> None:
    expected = clip.encode_image(images)
    assert torch.equal(clip.encode_image([Image.fromarray(image) for image in images]), expected)
    assert torch.equal(clip.encode_image(np.stack(images)), expected)
    assert torch.equal(clip.encode_image(clip.prepare(images)["pixel_values"]), expected)
    assert clip.encode_image(images[0]).shape == (1, 16)
    assert clip.encode_image(Image.new("L", (50, 40))).shape == (1, 16)


def test_a_string_strings_and_tokens_give_the_same_embeddings(clip: CLIPWrapper) -> None:
    expected = clip.encode_text(TEXTS)
    tokens = clip.prepare(texts=TEXTS)["input_ids"]
    torch.testing.assert_close(clip.encode_text(tokens), expected)
    torch.testing.assert_close(clip.encode_text(TEXTS[0]), expected[:1])


def test_padding_beside_longer_texts_does_not_change_an_embedding(clip: CLIPWrapper) -> None:
    together = clip.encode_text([TEXTS[1], "a photo of the number three this is the digit three"])
    torch.testing.assert_close(together[0], clip.encode_text(TEXTS[1])[0], rtol=1e-5, atol=1e-6)


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


def test_gradients_flow_through_outputs_always_and_through_encoding_in_training(
    clip: CLIPWrapper, images: list[np.ndarray]
) -> None:
    assert clip.outputs(clip.prepare(images))["image_embeds"].requires_grad
    assert not clip.encode_image(images).requires_grad
    clip.module.train()
    assert clip.encode_image(images).requires_grad


def test_the_temperature_is_the_learned_scale(clip: CLIPWrapper) -> None:
    clip.module.logit_scale.data.fill_(np.log(20.0))
    assert clip.temperature == pytest.approx(0.05)


def test_the_parts_have_the_specifications_names(clip: CLIPWrapper) -> None:
    assert clip.clip_model is clip.module
    assert clip.vision_encoder is clip.module.vision_model
    assert clip.text_encoder is clip.module.text_model
    assert clip.processor.tokenizer is clip.tokenizer
    assert clip.dtype is torch.float32


def test_units_have_the_exact_roles_and_towers(clip: CLIPWrapper) -> None:
    counts = Counter((unit.tower, unit.role) for unit in clip.units())
    layers = 2
    assert counts == {
        ("vision", "attention"): 4 * layers, ("text", "attention"): 4 * layers,
        ("vision", "mlp"): 2 * layers, ("text", "mlp"): 2 * layers,
        ("vision", "projection"): 1, ("text", "projection"): 1,
        ("vision", "embedding"): 2, ("text", "embedding"): 2,
        ("vision", "norm"): 2 * layers + 2, ("text", "norm"): 2 * layers + 1,
    }  # fmt: skip


def test_units_hold_all_parameters_but_biases_class_token_and_scale(clip: CLIPWrapper) -> None:
    rest = sum(
        parameter.numel()
        for name, parameter in clip.module.named_parameters()
        if name.endswith((".bias", "class_embedding", "logit_scale"))
    )
    assert sum(unit.numel for unit in clip.units()) + rest == clip.module.num_parameters()


def test_the_patch_convolution_is_an_embedding_and_projections_belong_to_their_towers(clip: CLIPWrapper) -> None:
    units = {unit.name: unit for unit in clip.units()}
    patch = units["vision_model.embeddings.patch_embedding"]
    assert (patch.kind, patch.role, patch.shape) == ("conv", "embedding", (32, 3 * 8 * 8))
    assert units["visual_projection"].tower == "vision"
    assert units["text_projection"].tower == "text"
    assert not any(unit.obstacle or unit.tied for unit in units.values())


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


def test_saved_files_are_the_same_bytes_whatever_the_model_was_used_for(
    clip: CLIPWrapper, clip_checkpoint: Path, tmp_path: Path
) -> None:
    fresh, used, again = tmp_path / "fresh", tmp_path / "used", tmp_path / "again"
    clip.save_files(fresh)
    clip.encode_text(["a", "a photo of the digit seven " * 9])
    clip.save_files(used)
    CLIPWrapper.skeleton(used).save_files(again)
    names = ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in fresh.iterdir()) == names
    for name in names:
        expected = (clip_checkpoint / name).read_bytes()
        assert [(place / name).read_bytes() for place in (fresh, used, again)] == [expected] * 3
        assert str(tmp_path).encode() not in expected


def test_a_copy_does_not_share_weights(clip: CLIPWrapper) -> None:
    copy = deepcopy(clip)
    copy.module.visual_projection.weight.data.zero_()
    assert clip.module.visual_projection.weight.abs().sum() > 0


def test_the_dtype_asked_for_is_the_dtype_computed_in(clip_checkpoint: Path, images: list[np.ndarray]) -> None:
    clip = CLIPWrapper.load(clip_checkpoint, device="cpu", dtype="bfloat16")
    assert clip.dtype is torch.bfloat16
    assert clip.encode_image(images).dtype is torch.bfloat16
