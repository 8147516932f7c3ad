"""Log-mel spectrograms against transformers' extractor, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from rcc.models.audio.mel import SILENCE, LogMel

RATE = 16_000
KINDS = {
    "published": {},
    "large": {"feature_size": 128},
    "tiny": {"feature_size": 8, "chunk_length": 1},
    "wide": {"feature_size": 8, "chunk_length": 1, "hop_length": 400},
}


def noise(samples: int, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(samples).standard_normal(samples) * scale).astype(np.float32)


def pair(kind: str) -> tuple[WhisperFeatureExtractor, LogMel]:
    found = WhisperFeatureExtractor(**KINDS[kind])
    return found, LogMel(found.feature_size, found.sampling_rate, found.hop_length, found.n_fft, found.chunk_length)


def expected(extractor: WhisperFeatureExtractor, waves: list[np.ndarray]) -> torch.Tensor:
    return extractor(waves, sampling_rate=RATE, return_tensors="pt").input_features


@pytest.mark.parametrize("remainder", range(160))
def test_every_length_modulo_a_hop_gives_the_bits_of_the_extractor(remainder: int) -> None:
    extractor, mel = pair("tiny")
    wave = noise(8000 + remainder)
    assert torch.equal(mel([wave]), expected(extractor, [wave]))


@pytest.mark.parametrize("samples", [1, 400, 401, 9999, 47_999, 176_000, 479_600, 479_801, 479_999, 480_000])
def test_lengths_up_to_a_whole_window_give_the_bits_of_the_extractor(samples: int) -> None:
    extractor, mel = pair("published")
    wave = noise(samples)
    assert torch.equal(mel([wave]), expected(extractor, [wave]))


@pytest.mark.parametrize("kind", ["large", "wide"])
@pytest.mark.parametrize("samples", [400, 7777, 16_000])
def test_other_sizes_give_the_bits_of_their_extractor(kind: str, samples: int) -> None:
    extractor, mel = pair(kind)
    wave = noise(samples)
    assert torch.equal(mel([wave]), expected(extractor, [wave]))


def test_several_clips_give_the_bits_of_the_extractors_batch() -> None:
    extractor, mel = pair("tiny")
    waves = [noise(500), noise(16_000), noise(3001, 1e-4), np.zeros(4000, np.float32)]
    assert torch.equal(mel(waves), expected(extractor, waves))


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e-3, 1.0])
def test_silence_and_any_loudness_give_the_bits_of_the_extractor(scale: float) -> None:
    extractor, mel = pair("tiny")
    assert torch.equal(mel([noise(6000, scale)]), expected(extractor, [noise(6000, scale)]))


def test_a_tone_is_loudest_in_its_own_band_and_padding_is_the_floor() -> None:
    mel = LogMel()
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    found = mel([tone])[0]
    assert found.shape == (80, 3000)
    # Slaney's scale is linear below 1 kHz, 200/3 Hz a mel: 1 kHz is at mel 15 of 45.245 for 8 kHz, in 81 steps.
    assert int(found[:, 50].argmax()) == round(15 / 45.245 * 81) - 1
    assert (found[:, 102:] == found[:, -1:]).all()
    assert float(found[0, -1]) == float(found.min()) >= (SILENCE + 4) / 4


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (160, 1), (161, 2), (48_000, 300), (480_000, 3000)])
def test_frames_of_a_signal_are_those_that_begin_in_it(samples: int, frames: int) -> None:
    assert LogMel().frames_of(samples) == frames
