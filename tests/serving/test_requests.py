"""Bodies of requests, read before anything is computed."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from toys.files import sound

from rcc.limits import limits
from rcc.serving.errors import ApiError
from rcc.serving.requests import EmbeddingRequest, embedding_request, items_of, read_json

MODELS = {
    "both": SimpleNamespace(modalities=("text", "image"), dimensions=4),
    "texts": SimpleNamespace(modalities=("text",), dimensions=8),
}
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def uri(size: tuple[int, int] = (3, 5), kind: str = "PNG") -> str:
    content = io.BytesIO()
    Image.new("RGB", size, "red").save(content, kind)
    return "data:image/any;base64," + base64.b64encode(content.getvalue()).decode()


def test_one_text_or_several_of_the_model_that_is_named() -> None:
    assert embedding_request({"input": "a", "model": "texts"}, MODELS) == EmbeddingRequest("texts", "text", ["a"])
    asked = embedding_request({"input": ["a", "b"], "model": "both", "encoding_format": "base64", "user": "x"}, MODELS)
    assert asked == EmbeddingRequest("both", "text", ["a", "b"], base64=True)
    assert embedding_request({"input": "a"}, {"texts": MODELS["texts"]}).model == "texts"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_images_come_as_data_uris_whatever_they_call_themselves(kind: str) -> None:
    (image,) = embedding_request({"input": uri(kind=kind), "model": "both", "modality": "image"}, MODELS).items
    assert (image.mode, image.size) == ("RGB", (3, 5))


def test_an_image_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "image_pixels", 100)
    with pytest.raises(ApiError, match="has 20 × 20 pixels and at most 100 are decoded") as error:
        items_of(uri((20, 20)), "image")
    assert "Remove or replace" not in error.value.message, "that is for who owns the files"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"input": "a", "model": "texts", "modality": "image"}, "model 'texts' embeds text, and image was asked for"),
        ({"input": "a"}, "model None is not served; there are both, texts"),
        ({"input": "a", "model": ["both"]}, "is not served"),
        ({"input": "\ud800", "model": "both"}, "it must be a text"),
    ],
)
def test_what_cannot_be_asked_is_told(content: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message.replace("(", r"\(")):
        embedding_request(content, MODELS)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(content=st.dictionaries(st.sampled_from(["input", "model", "modality", "encoding_format", "dimensions"]), JSON))
def test_any_json_is_a_request_or_an_error_of_the_client(content: Any) -> None:
    status, items = 200, ["none"]
    try:
        items = embedding_request(content, MODELS).items
    except ApiError as error:
        status = error.status
    assert items
    assert status == 200 or 400 <= status < 500


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'"a"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="the body is"):
        read_json(body)


def test_sounds_come_as_data_uris_and_are_never_fetched() -> None:
    models = {"speech": SimpleNamespace(modalities=("audio",), dimensions=4)}
    coded = "data:audio/wav;base64," + base64.b64encode(sound(1)).decode()
    (found,) = embedding_request({"input": coded, "modality": "audio"}, models).items
    assert (found.rate, len(found.samples)) == (8000, 2400)
    for given_, message in (
        ("https://example.org/a.wav", "a sound is a data URI, data:audio/wav;base64,…: nothing is fetched"),
        ("data:audio/wav;base64,AAAA", "cannot be decoded"),
        ("data:audio/wav;base64,?", "is not base64"),
    ):
        with pytest.raises(ApiError, match=message):
            embedding_request({"input": given_, "modality": "audio"}, models)
    with pytest.raises(ApiError, match="embeds audio, and text was asked for"):
        embedding_request({"input": "a"}, models)
