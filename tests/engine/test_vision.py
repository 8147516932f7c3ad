"""The encoder of images alone: for every kind of model the same embeddings as transformers gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from toys.checkpoints import SIDE, TOWER, VISION, bert_tokenizer, save
from transformers import (
    AutoImageProcessor,
    BertConfig,
    BertModel,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

import rcc
from rcc import CLIPEngine, UserError, VisionEncoder
from rcc.engine.vision import EMBEDDING, POOLED

KINDS = ("clip", "siglip", "clip_vision", "blip_retrieval", "blip", "vit", "transformers")


@pytest.fixture(scope="module")
def images(digits: Any) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(image) for image in digits.test.images[:5]])


def peer(path: Path, images: Any, pick: Any) -> np.ndarray[Any, Any]:
    """What transformers gives for the same: `pick` takes it from its own classes, chosen by config.json."""
    content = transformers.AutoConfig.from_pretrained(path)
    model = getattr(transformers, content.architectures[0]).from_pretrained(path).eval()
    pixels = AutoImageProcessor.from_pretrained(path, backend="pil")(
        [*map(Image.fromarray, images)], return_tensors="pt"
    )
    with torch.no_grad():
        return pick(model, pixels["pixel_values"]).numpy()


@pytest.mark.parametrize(
    ("kind", "pool", "pick"),
    [
        ("clip", EMBEDDING, lambda model, pixels: model.get_image_features(pixels).pooler_output),
        ("siglip", EMBEDDING, lambda model, pixels: model.get_image_features(pixels).pooler_output),
        ("clip_vision", EMBEDDING, lambda model, pixels: model(pixels).image_embeds),
        ("blip_retrieval", EMBEDDING, lambda model, pixels: model.vision_proj(model.vision_model(pixels)[0][:, 0])),
        ("vit", POOLED, lambda model, pixels: model.vit(pixels).last_hidden_state[:, 0]),
        ("transformers", POOLED, lambda model, pixels: model.resnet(pixels).pooler_output.flatten(1)),
    ],
)
def test_embeddings_are_those_of_transformers(kind: str, pool: str, pick: Any, checkpoint_of: Any, images: Any) -> None:
    encoder = VisionEncoder(checkpoint_of(kind), batch_size=2)
    wanted = peer(encoder.path, images, pick)
    found = encoder.encode(images, normalize=False)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    np.testing.assert_allclose(
        encoder.encode(images), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5
    )
    assert (encoder.pool, encoder.dimensions, found.dtype) == (pool, wanted.shape[1], np.float32)


@pytest.mark.parametrize(
    ("model_class", "config", "processor", "pick"),
    [
        (
            CLIPVisionModel,
            CLIPVisionConfig(**VISION),
            CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIDE),
            lambda model, pixels: model(pixels).pooler_output,
        ),
        (
            ViTModel,
            ViTConfig(**VISION),
            ViTImageProcessorPil(size=SIDE),
            lambda model, pixels: model(pixels).pooler_output,
        ),
        (
            Dinov2Model,
            Dinov2Config(**VISION),
            ViTImageProcessorPil(size=SIDE),
            lambda model, pixels: model(pixels).last_hidden_state[:, 0],
        ),
    ],
)
def test_towers_without_a_projection_give_what_they_pool(
    model_class: Any, config: Any, processor: Any, pick: Any, tmp_path: Path, images: Any
) -> None:
    encoder = VisionEncoder(save(tmp_path / "tower", model_class, config, processor))
    np.testing.assert_allclose(encoder.encode(images, False), peer(encoder.path, images, pick), atol=2e-5)
    assert encoder.pool == POOLED
    with pytest.raises(UserError, match=r"without a projection of images \(visual_projection\.weight"):
        VisionEncoder(encoder.path, pool=EMBEDDING).encode(images)


def test_a_clip_pools_before_its_projection_where_that_is_asked(checkpoint_of: Any, images: Any) -> None:
    encoder = VisionEncoder(checkpoint_of("clip"), pool=POOLED)
    wanted = peer(encoder.path, images, lambda model, pixels: model.vision_model(pixels).pooler_output)
    np.testing.assert_allclose(encoder.encode(images, normalize=False), wanted, atol=2e-5)
    assert (encoder.pool, encoder.dimensions) == (POOLED, 32)


def test_the_same_as_the_engine_of_two_towers(checkpoint_of: Any, images: Any) -> None:
    path = checkpoint_of("clip")
    np.testing.assert_array_equal(VisionEncoder(path).encode(images), CLIPEngine(path).encode_image(images))


def test_an_artifact_is_used_as_a_checkpoint_is(checkpoint_of: Any, images: Any, tmp_path: Path) -> None:
    for kind in KINDS:
        rcc.save(rcc.load_model(kind, path=checkpoint_of(kind)), tmp_path / kind, dtype="float32")
        artifact, dense = VisionEncoder(tmp_path / kind), VisionEncoder(checkpoint_of(kind))
        np.testing.assert_allclose(artifact.encode(images), dense.encode(images), atol=1e-5)


@pytest.fixture(scope="module")
def encoders(checkpoint_of: Any) -> dict[str, VisionEncoder]:
    return {kind: VisionEncoder(checkpoint_of(kind), batch_size=3) for kind in ("clip", "vit", "siglip")}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["clip", "vit", "siglip"]),
    sizes=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_p1_whatever_the_images_the_output_has_a_row_each_of_length_one(
    encoders: Any, kind: str, sizes: Any, seed: int
) -> None:
    encoder, draw = encoders[kind], np.random.default_rng(seed)
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    found = encoder.encode(images)
    assert (found.shape, found.dtype) == ((len(images), encoder.dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(images[-1]), found[-1:], atol=1e-5)  # a batch is not another function
    raw = encoder.encode(images, normalize=False)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), found, atol=1e-5)


def test_missing_projections_are_refused_by_name(altered_checkpoint: Any, images: Any) -> None:
    path = altered_checkpoint(lambda tensors: tensors.pop("visual_projection.weight"))
    for encoder in (VisionEncoder(path), CLIPEngine(path)):
        with pytest.raises(UserError, match=r"visual_projection\.weight"):
            encoder.model  # noqa: B018


def test_a_tower_that_was_cut_from_its_checkpoint_is_refused_by_name(tmp_path: Path, checkpoint_of: Any) -> None:
    path = checkpoint_of("clip_vision")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((path / name).read_text())
    tensors = load_file(path / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"visual_projection\.weight"):
        VisionEncoder(tmp_path).encode(np.zeros((8, 8, 3), np.uint8))


def test_what_embeds_no_images_is_refused(tmp_path: Path, checkpoint_of: Any, images: Any) -> None:
    with pytest.raises(UserError, match="holds no model: there is nothing"):
        VisionEncoder(tmp_path / "no")
    with pytest.raises(UserError, match="pool"):
        VisionEncoder(checkpoint_of("clip"), pool="first")
    with pytest.raises(UserError, match="batch_size"):
        VisionEncoder(checkpoint_of("clip"), batch_size=0)
    tokenizer = bert_tokenizer()
    text = save(tmp_path / "bert", BertModel, BertConfig(**TOWER, vocab_size=len(tokenizer)), tokenizer)
    with pytest.raises(UserError, match=r"reads texts, .*and no images"):
        VisionEncoder(text).encode(images)


def test_the_peer_reads_the_same_weights(checkpoint_of: Any) -> None:
    stored = CLIPModel.from_pretrained(checkpoint_of("clip")).state_dict()
    own = VisionEncoder(checkpoint_of("clip")).model.module.state_dict()
    assert all(torch.equal(stored[name], own[name]) for name in stored)
