"""The provider: each kind by its own encoder, opened when needed, and one space across texts and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rcc
from rcc import CLIPEngine, EmbeddingProvider, EmbeddingStore, MultimodalEmbeddingProvider, UserError, VisionEncoder

TEXTS = ["a photo of the digit three", "a photo of the digit nine"]


class Lengths:
    """An encoder of one's own: of a text its length and that of its first word; of a sound its length and its power."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, items: Any, normalize: bool = True) -> Any:
        self.calls += 1
        several = [items] if isinstance(items, str) else list(items)
        first = [len(each.split()[0]) if isinstance(each, str) else float(np.square(each).sum()) for each in several]
        rows = np.array([[len(each), one] for each, one in zip(several, first, strict=True)], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalize else rows


@pytest.fixture(scope="module")
def images(digits: Any) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(image) for image in digits.test.images[:40]])


def longest_text(provider: EmbeddingProvider, texts: list[str]) -> str:
    """What code of texts alone looks like."""
    return texts[int(provider.encode_text(texts, normalize=False)[:, 0].argmax())]


def test_code_of_texts_alone_needs_a_text_encoder_alone() -> None:
    provider = MultimodalEmbeddingProvider(text=Lengths())
    assert isinstance(provider, EmbeddingProvider)
    assert longest_text(provider, ["a dog", "a red dog"]) == "a red dog"
    np.testing.assert_allclose(provider.encode_text("a dog", normalize=False), [[5, 1]])
    for call, kind in ((provider.encode_image, "vision"), (provider.encode_audio, "audio")):
        with pytest.raises(UserError, match=rf"has no {kind} encoder, only text: .*\({kind}=<directory>\)"):
            call([np.zeros(3)])


def test_each_kind_is_encoded_by_its_own_encoder(checkpoint_of: Any, images: Any) -> None:
    text, audio, vision, clip = Lengths(), Lengths(), checkpoint_of("vit"), checkpoint_of("clip")
    provider = MultimodalEmbeddingProvider(text=text, vision=vision, audio=audio, clip=clip)
    np.testing.assert_array_equal(provider.encode_text(TEXTS), text.encode(TEXTS))
    np.testing.assert_array_equal(provider.encode_image(images), VisionEncoder(vision).encode(images))
    assert provider.encode_audio([np.ones(4), np.ones(9)]).shape == (2, 2)
    found = provider.encode_multimodal(texts=TEXTS, images=images, audio=[np.ones(4)], normalize=False)
    assert {name: each.kind for name, each in found.items()} == {"texts": "clip", "images": "clip", "audio": "audio"}
    engine = CLIPEngine(clip)
    np.testing.assert_array_equal(found["texts"].vectors, engine.encode_text(TEXTS, normalize=False))
    np.testing.assert_array_equal(found["images"].vectors, engine.encode_image(images, normalize=False))


def test_without_a_clip_texts_and_images_are_of_two_kinds(checkpoint_of: Any, images: Any) -> None:
    provider = MultimodalEmbeddingProvider(text=Lengths(), vision=checkpoint_of("vit"))
    found = provider.encode_multimodal(texts=TEXTS, images=images[:2])
    assert [each.kind for each in found.values()] == ["text", "vision"]
    alone = MultimodalEmbeddingProvider(clip=checkpoint_of("clip"))
    assert alone.encode_text(TEXTS).shape[1] == alone.encode_image(images[:1]).shape[1] == 16


def test_an_encoder_is_opened_when_it_is_first_asked_for(checkpoint_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Path, Any]] = []

    def counted(path: Path, **options: Any) -> Any:
        opened.append((path, options["dtype"]))
        return rcc.load_model("auto", path=path)

    monkeypatch.setattr("rcc.engine.opening.opened", counted)
    clip, vision = checkpoint_of("clip"), checkpoint_of("vit")
    provider = MultimodalEmbeddingProvider(text=Lengths(), vision=vision, clip=clip, dtype="float32", batch_size=2)
    provider.encode_text(TEXTS)
    assert opened == []
    provider.encode_multimodal(texts=TEXTS)
    provider.encode_multimodal(texts=TEXTS)
    assert opened == [(clip, "float32")]


def test_a_store_of_the_provider_is_searched_across_kinds(tmp_path: Path, digits: Any, images: Any) -> None:
    provider = MultimodalEmbeddingProvider(clip=Path(rcc.__file__).parent / "assets/clip_tiny")
    store = EmbeddingStore(tmp_path / "store", kind="clip", model=provider.checksum("clip"))
    encoded = provider.encode_multimodal(images=images)["images"]
    labels = [digits.class_names[label] for label in digits.test.labels[:40]]
    store.add([f"image {place}" for place in range(40)], encoded.vectors, [{"label": label} for label in labels])
    texts = provider.encode_multimodal(texts=[f"a photo of the digit {name}" for name in digits.class_names])["texts"]
    assert texts.kind == encoded.kind == "clip"
    found = [matches[0].fields["label"] for matches in store.search(texts.vectors, top_k=1)]
    assert found == list(digits.class_names)  # from text to image
    back = EmbeddingStore(tmp_path / "texts", kind="clip", model=provider.checksum("clip"))
    back.add(list(digits.class_names), texts.vectors)
    nearest = [matches[0].id for matches in back.search(encoded.vectors, top_k=1)]
    assert np.mean([one == other for one, other in zip(nearest, labels, strict=True)]) >= 0.95  # and the other way
    with pytest.raises(UserError, match="made by other weights"):
        EmbeddingStore(tmp_path / "store", kind="clip", model="b" * 64).add("x", encoded.vectors[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no encoder is given; give one or more of text, vision, audio, clip"),
        ({"text": 3}, "text is int; give the path of a model, or an object with encode"),
        ({"clip": Lengths()}, "clip is Lengths; give the path of a model, or an object with encode_image, encode_text"),
    ],
)
def test_what_encodes_nothing_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MultimodalEmbeddingProvider(**given)
    with pytest.raises(UserError, match="nothing to encode"):
        MultimodalEmbeddingProvider(text=Lengths()).encode_multimodal()
    with pytest.raises(UserError, match="holds no model: there is nothing"):
        MultimodalEmbeddingProvider(vision="no such").encode_image([np.zeros((2, 2, 3), np.uint8)])
