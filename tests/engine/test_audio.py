"""Sounds of any kind to vectors: those of transformers, in any form and order, and refusals in words."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys.checkpoints import save_whisper
from toys.files import sound
from transformers import WhisperFeatureExtractor, WhisperModel

import rcc
from rcc import AudioEncoder, MultimodalEmbeddingProvider, UserError

RATE = 16_000
KEEP = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WAVES = st.builds(
    lambda seed, samples, scale: (np.random.default_rng(seed).standard_normal(samples) * scale).astype(np.float32),
    st.integers(0, 10**6), st.integers(400, 16_000), st.floats(1e-4, 0.5),
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("speech") / "whisper")


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> AudioEncoder:
    return AudioEncoder(checkpoint, pool="signal")


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> AudioEncoder:
    """In bfloat16, as job=convert writes it by default."""
    path = tmp_path_factory.mktemp("made") / "artifact"
    rcc.save(rcc.load_model("whisper", path=checkpoint, device="cpu"), path, dtype="bfloat16")
    return AudioEncoder(path)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Callable[[np.ndarray], np.ndarray]:
    """transformers' own states of a sound, pooled over its positions, of length 1."""
    encoder = WhisperModel.from_pretrained(checkpoint).encoder.eval()
    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)

    def pooled(wave: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            features = extractor(wave, sampling_rate=RATE, return_tensors="pt").input_features
            states = encoder(features).last_hidden_state[0]
        mean = states[: math.ceil(math.ceil(len(wave) / 160) / 2)].mean(0).numpy()
        return mean / np.linalg.norm(mean)

    return pooled


@KEEP
@given(wave=WAVES)
def test_any_sound_gives_one_unit_vector_near_that_of_transformers(
    encoder: AudioEncoder, artifact: AudioEncoder, reference: Any, wave: np.ndarray
) -> None:
    """Properties 3, 4 and 11 of the documents: shape and length, parity, and the artifact's after a conversion."""
    found, made = (each.encode(wave, sampling_rate=RATE) for each in (encoder, artifact))
    assert (found.shape, found.dtype) == ((1, 32), np.float32)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert float(found[0] @ reference(wave)) > 0.99999
    assert float(made[0] @ reference(wave)) > 0.99


def test_files_bytes_and_arrays_of_one_sound_give_the_same_vector(encoder: AudioEncoder, tmp_path: Path) -> None:
    import soundfile

    (tmp_path / "a.wav").write_bytes(sound(1))
    samples, rate = soundfile.read(io.BytesIO(sound(1)), dtype="int16")
    wanted = encoder.encode(tmp_path / "a.wav")
    for given_ in (str(tmp_path / "a.wav"), sound(1), sound(1, kind="FLAC"), samples, np.stack([samples] * 2, 1)):
        np.testing.assert_allclose(encoder.encode(given_, sampling_rate=rate), wanted, atol=2e-6)


def test_several_keep_their_order_in_batches_of_any_size(checkpoint: Path) -> None:
    sounds = [sound(seed, seed, seconds=0.1 + 0.3 * seed) for seed in range(5)]
    one, many = (AudioEncoder(checkpoint, batch_size=size).encode(sounds) for size in (1, 3))
    assert one.shape == (5, 32)
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_without_normalising_vectors_have_their_own_length(encoder: AudioEncoder) -> None:
    plain, unit = encoder.encode(sound(1), normalize=False), encoder.encode(sound(1))
    assert np.linalg.norm(plain) > 1.5
    np.testing.assert_allclose(plain / np.linalg.norm(plain), unit, atol=1e-6)


def test_pool_and_context_are_those_asked_for_else_those_of_the_artifact(checkpoint: Path, tmp_path: Path) -> None:
    rcc.save(
        rcc.load_model("whisper", path=checkpoint, device="cpu", context="clip"), tmp_path / "clip", dtype="float32"
    )
    clip, full = (AudioEncoder(tmp_path / "clip", context=context).encode(sound(2)) for context in (None, "full"))
    np.testing.assert_array_equal(full, AudioEncoder(checkpoint).encode(sound(2)))
    assert float((clip * full).sum()) < 0.99999
    assert not np.allclose(AudioEncoder(checkpoint, pool="all").encode(sound(2)), full, atol=1e-4)
    assert (AudioEncoder(checkpoint).dimensions, AudioEncoder(checkpoint).sampling_rate) == (32, RATE)


def test_a_provider_takes_it_as_its_audio_encoder(checkpoint: Path, encoder: AudioEncoder) -> None:
    provider = MultimodalEmbeddingProvider(audio=checkpoint)
    np.testing.assert_array_equal(provider.encode_audio([sound(1)]), encoder.encode([sound(1)]))


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (np.zeros(2000, np.float32), "item 0 has no sampling rate"),
        ([], "there is none"),
        (None, "audio is NoneType"),
        ([3], "item 0 is int"),
        ("no.wav", "sound 'no.wav' cannot be read"),
        (b"x", "cannot be decoded"),
        (sound(1, seconds=0.01), "lasts 10 ms"),
    ],
)
def test_what_cannot_be_encoded_is_refused_in_words(encoder: AudioEncoder, audio: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        encoder.encode(audio)
    assert said in str(refused.value)


def test_models_and_options_that_embed_no_sounds_are_refused(
    checkpoint: Path, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"holds a model 'vit', which reads images\. AudioEncoder takes a Whisper"):
        AudioEncoder(checkpoint_of("vit")).encode(sound(1))
    with pytest.raises(UserError, match="holds no model"):
        AudioEncoder(tmp_path / "no")
    with pytest.raises(UserError, match="unknown pool 'max'"):
        AudioEncoder(checkpoint, pool="max")
    with pytest.raises(UserError, match="pool=all takes positions"):
        AudioEncoder(checkpoint, pool="all", context="clip").encode(sound(1))
