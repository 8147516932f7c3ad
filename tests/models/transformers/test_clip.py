"""CLIPWrapper: the same numbers as transformers' CLIPModel, units with roles and towers, skeletons, files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from rcc.data.splits import Splits
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


def test_padding_beside_longer_texts_does_not_change_an_embedding(clip: CLIPWrapper) -> None:
    together = clip.encode_text([TEXTS[1], "a photo of the number three this is the digit three"])
    torch.testing.assert_close(together[0], clip.encode_text(TEXTS[1])[0], rtol=1e-5, atol=1e-6)


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
