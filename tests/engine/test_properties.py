"""Properties of the engine and of conversion, each on a hundred drawn examples.

Numbers are those of the documents: P2 vision, P5 widths, P6 similarities, P7 alignment, P10 conversion. P1 is in
test_vision.py, P8 in tests/models/transformers/test_pixels.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import rcc
from rcc import CLIPEngine, VisionEncoder
from rcc.conversion.parity import parities

TINY = Path(rcc.__file__).parent / "assets/clip_tiny"
SENTENCE = "a photo of the digit zero one two three four five six seven eight nine and no other thing red blue"
WORDS = SENTENCE.split()
HUNDRED = settings(max_examples=100, deadline=None)
texts_of = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join), min_size=3, max_size=6)
places_of = st.lists(st.integers(0, 59), min_size=3, max_size=6, unique=True)


@pytest.fixture(scope="module")
def engine() -> CLIPEngine:
    return CLIPEngine(TINY, batch_size=4)


@pytest.fixture(scope="module")
def vision() -> VisionEncoder:
    return VisionEncoder(TINY, batch_size=4)


@pytest.fixture(scope="module")
def data(digits: Any) -> tuple[list[Any], list[str]]:
    """Sixty images and what each shows."""
    images = [np.asarray(digits.test.images[place]) for place in range(60)]
    return images, [digits.class_names[label] for label in digits.test.labels[:60]]


@pytest.fixture(scope="module")
def peer(data: Any) -> Any:
    """Transformers' own embeddings of texts and of the sixty images."""
    model, tokenizer = CLIPModel.from_pretrained(TINY).eval(), CLIPTokenizer.from_pretrained(TINY)
    pixels = CLIPImageProcessorPil.from_pretrained(TINY)([*map(Image.fromarray, data[0])], return_tensors="pt")

    @torch.no_grad()
    def texts(given: list[str]) -> Any:
        tokens = tokenizer(given, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
        return torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)

    with torch.no_grad():
        images = torch.nn.functional.normalize(model.get_image_features(**pixels).pooler_output, dim=-1)
    return texts, images


@HUNDRED
@given(places=places_of)
def test_p2_images_are_embedded_as_transformers_embeds_them(vision: Any, data: Any, peer: Any, places: Any) -> None:
    found = vision.encode([data[0][place] for place in places])
    cosines = (found * peer[1][places].numpy()).sum(1)
    assert cosines.min() > 0.9999


@HUNDRED
@given(texts=texts_of, places=places_of, normalize=st.booleans())
def test_p5_texts_and_images_have_the_projections_width(
    engine: Any, data: Any, texts: Any, places: Any, normalize: bool
) -> None:
    of_texts = engine.encode_text(texts, normalize)
    of_images = engine.encode_image([data[0][place] for place in places], normalize)
    width = engine.config.projection_dim
    assert (of_texts.shape, of_images.shape) == ((len(texts), width), (len(places), width))
    assert engine.compute_similarity(of_texts, of_images).shape == (len(texts), len(places))
    assert np.isfinite(of_texts).all()
    assert np.isfinite(of_images).all()


@HUNDRED
@given(texts=texts_of, places=places_of)
def test_p6_similarities_are_those_of_transformers(engine: Any, data: Any, peer: Any, texts: Any, places: Any) -> None:
    of_images = engine.encode_image([data[0][place] for place in places])
    found = engine.compute_similarity(engine.encode_text(texts), of_images, apply_temperature=False)
    wanted = (peer[0](texts) @ peer[1][places].T).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


@HUNDRED
@given(places=places_of)
def test_p7_a_matched_pair_is_nearer_than_those_that_do_not_match(engine: Any, data: Any, places: Any) -> None:
    images, shown = data
    names = sorted({shown[place] for place in places})
    texts = engine.encode_text([f"a photo of the digit {name}" for name in names])
    cosines = engine.compute_similarity(texts, engine.encode_image([images[place] for place in places]), False)
    own = np.array([[shown[place] == name for place in places] for name in names])
    assert cosines[own].mean() > (cosines[~own].mean() if (~own).any() else -1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> CLIPEngine:
    """The same model through an artifact in float16."""
    place = tmp_path_factory.mktemp("converted") / "artifact"
    rcc.save(rcc.load_model("clip_tiny"), place, dtype="float16")
    return CLIPEngine(place, batch_size=4)


@HUNDRED
@given(texts=texts_of, places=places_of)
def test_p10_a_converted_model_gives_what_it_gave(
    engine: Any, converted: Any, data: Any, texts: Any, places: Any
) -> None:
    pictures = [data[0][place] for place in places]
    before = {"text": engine.encode_text(texts), "image": engine.encode_image(pictures)}
    after = {"text": converted.encode_text(texts), "image": converted.encode_image(pictures)}
    given_, again = ({name: torch.from_numpy(each) for name, each in both.items()} for both in (before, after))
    for parity in parities(given_, again):
        assert parity.least > 0.999
        assert parity.similarities > 0.95
