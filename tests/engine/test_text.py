"""TextEncoder: embeddings of texts in order, whatever their lengths, repeats and prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.checkpoints import WORDS, save_sentences

import rcc
from rcc.engine.encoding import Embeddings
from rcc.errors import UserError

TEXTS = ["a photo of the dog", "six", "the digit two is on a red dog in a photo of a cat seven", "six"]
PROMPTS = {"query": "the digit ", "passage": "photo of "}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentences(tmp_path_factory.mktemp("encoder") / "dense", prompts=PROMPTS)


@pytest.fixture(scope="module")
def encoder(directory: Path) -> rcc.TextEncoder:
    return rcc.TextEncoder(directory, device="cpu", batch_size=3)


def padded_to_the_longest_possible(directory: Path, texts: list[str]) -> Embeddings:
    model = transformers.AutoModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    with torch.no_grad():
        states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        found: Embeddings = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    return found


def test_texts_give_what_transformers_gives_padded_to_the_longest_possible(
    encoder: rcc.TextEncoder, directory: Path
) -> None:
    found = encoder.encode(TEXTS)
    assert (found.shape, found.dtype) == ((4, 32), np.float32)
    np.testing.assert_allclose(found, padded_to_the_longest_possible(directory, TEXTS), atol=1e-6)
    assert np.array_equal(found[1], found[3])
    assert (encoder.dimensions, dict(encoder.prompts)) == (32, PROMPTS)
    assert encoder.encode("six").shape == (1, 32)
    assert encoder.cut(TEXTS) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), min_size=1, max_size=6))
def test_order_and_repeats_do_not_matter(directory: Path, texts: list[str]) -> None:
    encoder = rcc.TextEncoder(directory, device="cpu", batch_size=2)
    encoder.__dict__["model"] = _model(directory)
    found, again = encoder.encode(texts), encoder.encode(texts[::-1])
    np.testing.assert_allclose(found, again[::-1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    first = {text: place for place, text in reversed(list(enumerate(texts)))}
    assert all(np.array_equal(found[place], found[first[text]]) for place, text in enumerate(texts))


def _model(directory: Path, _held: dict[Path, object] = {}) -> object:  # noqa: B006
    if directory not in _held:
        _held[directory] = rcc.TextEncoder(directory, device="cpu").model
    return _held[directory]


def test_a_prompt_is_put_before_each_text(encoder: rcc.TextEncoder) -> None:
    np.testing.assert_allclose(encoder.encode("two", prompt="query"), encoder.encode("the digit two"), atol=1e-6)
    with pytest.raises(UserError, match=r"unknown prompt 'quory'. Did you mean 'query'"):
        encoder.encode("two", prompt="quory")


def test_without_normalising_vectors_are_as_they_were_pooled(encoder: rcc.TextEncoder) -> None:
    raw = encoder.encode(TEXTS, normalize=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 1e-3).all()
    np.testing.assert_allclose(raw / lengths, encoder.encode(TEXTS), atol=1e-6)


def test_an_artifact_and_the_text_tower_of_a_clip_are_encoders_too(
    encoder: rcc.TextEncoder, clip_checkpoint: Path, tmp_path: Path
) -> None:
    rcc.save(encoder.model, tmp_path / "artifact", dtype="float32")
    assert np.array_equal(rcc.TextEncoder(tmp_path / "artifact", device="cpu").encode(TEXTS), encoder.encode(TEXTS))
    tower = rcc.TextEncoder(clip_checkpoint, device="cpu")
    engine = rcc.CLIPEngine(clip_checkpoint, device="cpu")
    np.testing.assert_allclose(tower.encode(TEXTS), engine.encode_text(TEXTS), atol=1e-6)
    np.testing.assert_allclose(tower.encode(TEXTS, normalize=False), engine.encode_text(TEXTS, normalize=False))
    assert tower.prompts == {}
    with pytest.raises(UserError, match="does not count tokens"):
        tower.cut(TEXTS)


def test_it_is_the_text_encoder_of_a_provider(encoder: rcc.TextEncoder, directory: Path) -> None:
    provider = rcc.MultimodalEmbeddingProvider(text=directory, device="cpu")
    np.testing.assert_allclose(provider.encode_text(TEXTS), encoder.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("texts", [[], [3], ["a", None]])
def test_anything_but_texts_is_refused(texts: list[object], encoder: rcc.TextEncoder) -> None:
    with pytest.raises(UserError, match="texts must be one or more strings"):
        encoder.encode(texts)  # type: ignore[arg-type]


def test_a_path_without_a_model_of_texts_is_refused(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        rcc.TextEncoder(tmp_path)
    with pytest.raises(UserError, match="batch_size"):
        rcc.TextEncoder(checkpoint_of("vit"), batch_size=0)
    with pytest.raises(UserError, match=r"model 'vit', which reads images and no texts"):
        rcc.TextEncoder(checkpoint_of("vit"), device="cpu").encode("a")
