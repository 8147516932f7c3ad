"""The engine of two towers: the same embeddings as transformers gives, whatever images and texts come as."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from toys.files import sound
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import rcc
from rcc import CLIPConfig, CLIPEngine, UserError

TEXTS = [
    "a photo of the digit three",
    "a photo of the digit nine, and of nothing else",
    "zero",
    "a photo of the digit three",
]


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return Path(rcc.__file__).parent / "assets/clip_tiny"


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> CLIPEngine:
    return CLIPEngine(checkpoint, batch_size=3)


@pytest.fixture(scope="module")
def images() -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(image) for image in rcc.load_data("digits").test.images[:7]])


@pytest.fixture(scope="module")
def peer(checkpoint: Path, images: Any) -> dict[str, np.ndarray[Any, Any]]:
    """What transformers gives for the same, all texts padded to the context."""
    model = CLIPModel.from_pretrained(checkpoint).eval()
    tokens = CLIPTokenizer.from_pretrained(checkpoint)(
        TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    pixels = CLIPImageProcessorPil.from_pretrained(checkpoint)([*map(Image.fromarray, images)], return_tensors="pt")
    with torch.no_grad():
        given = model(**tokens, **pixels)
    found = {"texts": given.text_embeds, "images": given.image_embeds, "logits": given.logits_per_text}
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_embeddings_and_similarities_are_those_of_transformers(engine: CLIPEngine, images: Any, peer: Any) -> None:
    texts, pictures = engine.encode_text(TEXTS), engine.encode_image(images)
    assert (texts.dtype, pictures.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(texts, peer["texts"], atol=1e-5)
    np.testing.assert_allclose(pictures, peer["images"], atol=1e-5)
    np.testing.assert_allclose(engine.compute_similarity(texts, pictures), peer["logits"], atol=1e-3)
    cosines = engine.compute_similarity(texts, pictures, apply_temperature=False)
    np.testing.assert_allclose(cosines, peer["texts"] @ peer["images"].T, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-6)


def test_lengths_are_those_of_the_projections_where_they_are_left(engine: CLIPEngine, images: Any) -> None:
    for raw, unit in (
        (engine.encode_text(TEXTS, normalize=False), engine.encode_text(TEXTS)),
        (engine.encode_image(images, normalize=False), engine.encode_image(images)),
    ):
        lengths = np.linalg.norm(raw, axis=1, keepdims=True)
        assert (abs(lengths - 1) > 1e-3).all()
        np.testing.assert_allclose(raw / lengths, unit, atol=1e-6)


def test_one_or_many_and_every_kind_of_image_are_the_same(engine: CLIPEngine, images: Any, tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    Image.fromarray(images[0]).save(path)
    encoded = io.BytesIO()
    Image.fromarray(images[0]).save(encoded, "PNG")
    wanted = engine.encode_image(images)[:1]
    for given in (images[0], Image.fromarray(images[0]), path, str(path), encoded.getvalue(), [path], images[:1]):
        np.testing.assert_allclose(engine.encode_image(given), wanted, atol=1e-6)
    np.testing.assert_array_equal(engine.encode_text(TEXTS[0])[0], engine.encode_text([TEXTS[0]])[0])


def test_matches_are_the_nearest_first(engine: CLIPEngine, images: Any, peer: Any) -> None:
    cosines = peer["texts"] @ peer["images"].T
    order = [list(np.argsort(-row)) for row in cosines]
    assert engine.find_best_matches(TEXTS, images, top_k=3) == [row[:3] for row in order]
    assert engine.find_best_matches(TEXTS[0], images, top_k=100) == [order[0]]
    (first, *_) = engine.find_best_text_matches(images, TEXTS[:3], top_k=2)
    assert first == list(np.argsort(-cosines[:3, 0])[:2])


def test_classes_are_those_of_the_highest_probability(engine: CLIPEngine, images: Any, peer: Any) -> None:
    predicted, probabilities = engine.zero_shot_classification(images, TEXTS[:3])
    wanted = F.softmax(torch.from_numpy(peer["logits"][:3].T), dim=1).numpy()
    np.testing.assert_allclose(probabilities, wanted, atol=1e-4)
    np.testing.assert_array_equal(predicted, wanted.argmax(1))
    np.testing.assert_array_equal(engine.zero_shot_classification(images, TEXTS[:3], False), predicted)


def test_an_artifact_is_used_as_a_checkpoint_is(tmp_path: Path, checkpoint: Path, images: Any) -> None:
    rcc.save(rcc.load_model("clip", path=checkpoint), tmp_path / "artifact", dtype="float32")
    artifact, dense = CLIPEngine(tmp_path / "artifact"), CLIPEngine(checkpoint)
    np.testing.assert_allclose(artifact.encode_image(images), dense.encode_image(images), atol=1e-6)
    assert artifact.config == dense.config


def test_nothing_is_opened_before_it_is_needed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(path: Path, **_: Any) -> Any:
        opened.append(path)
        return rcc.load_model("clip_tiny")

    monkeypatch.setattr("rcc.engine.opening.opened", counted)
    engine = CLIPEngine(checkpoint)
    assert opened == []
    engine.encode_text("zero")
    assert engine.config.projection_dim == engine.encode_text("nine").shape[1]
    assert opened == [checkpoint]


def test_the_widths_are_those_of_the_model(engine: CLIPEngine) -> None:
    config = engine.model.module.config
    assert engine.config == CLIPConfig(
        config.text_config.hidden_size, config.vision_config.hidden_size, config.projection_dim
    )
    assert CLIPConfig() == CLIPConfig(384, 768, 512)
    assert engine.logit_scale == pytest.approx(float(engine.model.module.logit_scale.detach()))


@pytest.mark.parametrize("kind", ["siglip"])
def test_other_models_of_two_towers_are_taken(kind: str, checkpoint_of: Any, images: Any) -> None:
    engine = CLIPEngine(checkpoint_of(kind))
    embedded = engine.encode_text(["cat", "red dog"]), engine.encode_image(images)
    assert [len(each) for each in embedded] == [2, 7]
    assert engine.config.projection_dim == embedded[0].shape[1] == embedded[1].shape[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda engine, images: engine.encode_text([]), "one or more strings; there are none"),
        (lambda engine, images: engine.encode_text(["a", 3]), "item 1 is int"),
        (lambda engine, images: engine.encode_image([]), "images: there are none"),
        (lambda engine, images: engine.encode_image([images[0], 3]), "item 1 is int; it must be a path"),
        (lambda engine, images: engine.encode_image(images.astype(np.float32)), "item 0 is float32 of shape"),
        (lambda engine, images: engine.encode_image("no.png"), "image 'no.png' cannot be read: No such file"),
        (lambda engine, images: engine.encode_image(b"no image"), "cannot be decoded"),
        (lambda engine, images: engine.encode_image(None), "images are NoneType"),
        (lambda engine, images: engine.find_best_matches(["a"], images, top_k=0), "top_k"),
        (lambda engine, images: engine.compute_similarity(np.zeros((1, 4)), np.ones((1, 4))), "zero or not finite"),
        (lambda engine, images: engine.compute_similarity(np.ones((1, 4)), np.ones((1, 5))), "of two models"),
        (lambda engine, images: CLIPConfig(projection_dim=0), "projection_dim"),
        (lambda engine, images: CLIPEngine(engine.path, batch_size=0), "batch_size"),
    ],
)
def test_what_cannot_be_embedded_is_refused(call: Any, message: str, engine: CLIPEngine, images: Any) -> None:
    with pytest.raises(UserError, match=message):
        call(engine, images)


def test_a_path_without_a_model_or_with_another_kind_is_refused(tmp_path: Path, checkpoint_of: Any) -> None:
    with pytest.raises(UserError, match="holds no model: there is nothing"):
        CLIPEngine(tmp_path / "no")
    with pytest.raises(UserError, match=r"a directory without config\.json"):
        CLIPEngine(tmp_path)
    (tmp_path / "run/artifact").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is the directory of a run; its model is .*run/artifact"):
        CLIPEngine(tmp_path / "run")
    engine = CLIPEngine(checkpoint_of("vit"))
    with pytest.raises(UserError, match="holds a model 'vit', which has no projections"):
        engine.encode_text("a")


def test_the_page_of_the_engine_does_what_it_says(
    checkpoint: Path, images: Any, checkpoint_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it writes a store
    page = (Path(rcc.__file__).parents[1] / "docs/engine.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"artifact": checkpoint, "images": images}
    tone = np.sin(np.arange(44_100) / 20).astype(np.float32)
    names |= {"speech": checkpoint_of("whisper"), "clips": [sound(1), sound(2, 1)], "samples": tone}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "engine.md", "exec"), names)
    assert names["similarity"].shape == (2, 7)
    assert len(names["best"][0]) == 3
    assert names["embeddings"].shape == (7, names["encoder"].dimensions)
    assert (names["heard"].shape, names["one"].shape) == ((2, 32), (1, 32))
    assert names["probabilities"].shape == (7, 3)
