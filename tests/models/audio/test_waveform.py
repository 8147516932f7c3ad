"""Sounds of every kind that users have, as one channel at one rate; the others refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rcc.errors import UserError
from rcc.models.audio.waveform import Waveform, at_rate, resampled, windows

RATE = 16_000


def tone(rate: int = RATE, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def one(sound: Any, sampling_rate: int | None = None) -> np.ndarray:
    (found,) = at_rate(sound, RATE, sampling_rate)
    assert (found.dtype, found.ndim) == (np.float32, 1)
    return found


def test_floats_at_the_rate_are_taken_as_they_are() -> None:
    assert (one(tone(), RATE) == tone()).all()
    assert (one(Waveform(tone(), RATE)) == tone()).all()
    assert (one(tone().astype(np.float64), RATE) == tone()).all()


@pytest.mark.parametrize(("dtype", "scale"), [(np.int16, 32768), (np.int32, 2**31)])
def test_whole_numbers_are_taken_by_their_full_scale(dtype: Any, scale: int) -> None:
    whole = np.round(tone().astype(np.float64) * (scale - 1)).astype(dtype)
    assert np.abs(one(whole, RATE) - tone()).max() < 1e-4
    assert one(np.full(800, np.iinfo(dtype).min, dtype), RATE).min() == -1.0


def test_bytes_without_sign_have_their_zero_at_128() -> None:
    assert one(np.array([128, 0, 255] * 400, np.uint8), RATE)[:3].tolist() == [0.0, -1.0, 127 / 128]


def test_channels_are_averaged() -> None:
    stereo = np.stack([tone(), np.zeros_like(tone())], 1)
    assert np.allclose(one(stereo, RATE), tone() / 2)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_another_rate_is_resampled_to_the_same_tone(rate: int) -> None:
    found, wanted = one(tone(rate), rate), tone()
    assert len(found) == len(wanted)
    middle = slice(400, -400)  # the filter rings at both ends
    assert np.abs(found[middle] - wanted[middle]).max() < 2e-3


def test_resampling_is_scipys_polyphase_filter_to_the_bit() -> None:
    from scipy.signal import resample_poly

    wave = tone(44_100)
    assert (resampled(wave, 44_100, RATE) == resample_poly(wave, 160, 441)).all()


def test_several_sounds_may_each_have_a_rate_of_their_own() -> None:
    found = at_rate([Waveform(tone(8000), 8000), tone()], RATE, RATE)
    assert [len(each) for each in found] == [8000, 8000]


@pytest.mark.parametrize(
    ("sound", "rate", "said"),
    [
        (tone(), None, "item 0 has no sampling rate: give the samples a second"),
        (tone(), 0, "no sampling rate"),
        (tone(), 500, "a sampling rate of 500"),
        (tone(), 16_000.0, "a sampling rate of 16000.0"),
        (tone(), 10**9, "a sampling rate of 1000000000"),
        (np.zeros(0, np.float32), RATE, "item 0 is empty"),
        (tone()[:399], RATE, "lasts 24.9 ms; a sound must last 25 ms or more"),
        (np.full(800, np.nan, np.float32), RATE, "holds NaN or infinite samples"),
        (np.full(800, np.inf, np.float32), RATE, "holds NaN or infinite samples"),
        (tone() * 32768, RATE, "floats up to 16384, and they are taken as lying in"),
        (np.zeros(800, np.int64), RATE, "holds int64"),
        (np.zeros(800, complex), RATE, "holds complex128"),
        (np.array(["a"] * 800), RATE, "holds <U1"),
        (np.zeros((2, 800), np.float32), RATE, r"has shape (2, 800); it must be (samples,), or (samples, channels)"),
        (np.zeros((2, 2, 800), np.float32), RATE, "has shape (2, 2, 800)"),
        (Waveform(np.zeros(10, np.float32), RATE, "a.wav"), None, "a.wav lasts 0.625 ms"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(sound: Any, rate: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        at_rate(sound, RATE, rate)
    assert said in str(refused.value)


def test_every_sound_that_is_wrong_is_named() -> None:
    with pytest.raises(UserError) as refused:
        at_rate([tone(), tone()[:5], Waveform(tone(), 3)], RATE, RATE)
    assert len(refused.value.problems) == 2
    assert "item 1" in str(refused.value)
    assert "item 2" in str(refused.value)


@pytest.mark.parametrize("nothing", [[], None, "speech.wav"])
def test_no_sound_at_all_is_refused(nothing: Any) -> None:
    with pytest.raises(UserError):
        at_rate(nothing, RATE, RATE)


def test_windows_follow_each_other_and_lose_no_sample() -> None:
    wave = np.arange(250, dtype=np.float32)
    parts = windows(wave, 100)
    assert [len(part) for part in parts] == [100, 100, 50]
    assert (np.concatenate(parts) == wave).all()
    assert len(windows(wave[:100], 100)) == 1
