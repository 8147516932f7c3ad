"""Two towers and one space: images and texts in every form, embeddings of length one, pairs and their loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.transformers.dual import DualEncoder

TEXTS = ["a photo of the digit seven", "a handwritten two", "zebra"]
WIDTH = {"clip": 16, "siglip": 32}


@pytest.fixture(params=sorted(WIDTH))
def model(request: pytest.FixtureRequest, random_model: Callable[[str], DualEncoder]) -> DualEncoder:
    return random_model(request.param)


@pytest.fixture
def images(digits: Splits) -> list[np.ndarray]:
    return [np.asarray(image) for image in list(digits.test.images[0:3])]


def test_forward_gives_what_the_specification_names(model: DualEncoder, images: list[np.ndarray]) -> None:
    assert set(model.forward(images=images)) == {"image_embeds"}
    assert set(model.forward(texts=TEXTS)) == {"text_embeds"}
    output = model.forward(images, TEXTS, return_loss=True)
    width = WIDTH[model.name]
    assert {name: tuple(tensor.shape) for name, tensor in output.items()} == {
        "image_embeds": (3, width), "text_embeds": (3, width), "logits_per_image": (3, 3), "logits_per_text": (3, 3),
        "loss": (),
    }  # fmt: skip
    torch.testing.assert_close(output["loss"], model.loss(model.prepare(images, TEXTS)))


def test_forward_refuses_a_loss_without_pairs(model: DualEncoder, images: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match="as many images as texts"):
        model.forward(images, TEXTS[:2], return_loss=True)
    with pytest.raises(UserError, match="as many images as texts"):
        model.forward(texts=TEXTS, return_loss=True)


def test_embeddings_are_projected_and_of_length_one(model: DualEncoder, images: list[np.ndarray]) -> None:
    for embeddings in (model.encode_image(images), model.encode_text(TEXTS)):
        assert embeddings.shape == (3, WIDTH[model.name])
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_pil_images_arrays_and_prepared_pixels_give_the_same_embeddings(
    model: DualEncoder, images: list[np.ndarray]
) -> None:
    expected = model.encode_image(images)
    assert torch.equal(model.encode_image([Image.fromarray(image) for image in images]), expected)
    assert torch.equal(model.encode_image(np.stack(images)), expected)
    assert torch.equal(model.encode_image(model.prepare(images)["pixel_values"]), expected)
    assert model.encode_image(images[0]).shape == (1, WIDTH[model.name])
    assert model.encode_image(Image.new("L", (50, 40))).shape == (1, WIDTH[model.name])


def test_a_string_strings_and_tokens_give_the_same_embeddings(model: DualEncoder) -> None:
    expected = model.encode_text(TEXTS)
    tokens = model.prepare(texts=TEXTS)["input_ids"]
    torch.testing.assert_close(model.encode_text(tokens), expected)
    torch.testing.assert_close(model.encode_text(TEXTS[0]), expected[:1])


def test_gradients_flow_through_outputs_always_and_through_encoding_in_training(
    model: DualEncoder, images: list[np.ndarray]
) -> None:
    assert model.outputs(model.prepare(images))["image_embeds"].requires_grad
    assert not model.encode_image(images).requires_grad
    model.module.train()
    assert model.encode_image(images).requires_grad


def test_the_temperature_is_the_learned_scale(model: DualEncoder) -> None:
    model.module.logit_scale.data.fill_(np.log(20.0))
    assert model.temperature == pytest.approx(0.05)


def test_similarity_is_the_cosine_times_the_scale_whatever_the_lengths(model: DualEncoder) -> None:
    images, texts = torch.randn(2, WIDTH[model.name]), torch.randn(3, WIDTH[model.name])
    expected = F.cosine_similarity(images[:, None], texts[None], dim=-1) / model.temperature
    expected = expected + getattr(model.module, "logit_bias", 0.0)  # which SigLIP adds
    torch.testing.assert_close(model.compute_similarity(5 * images, texts / 7), expected)


def test_the_towers_have_the_specifications_names(model: DualEncoder) -> None:
    assert model.vision_encoder is model.module.vision_model
    assert model.text_encoder is model.module.text_model


def test_a_batch_without_inputs_is_refused_with_what_it_has(model: DualEncoder) -> None:
    with pytest.raises(UserError, match=rf"'{model.name}' needs pixel_values or input_ids; this one has \['labels'\]"):
        model.outputs({"labels": torch.zeros(1)})
