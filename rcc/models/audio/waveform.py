"""Take sounds as users have them: samples of any common kind, rate and number of channels, or a refusal in words.

Shapes: N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.errors import Problems, UserError

Samples = NDArray[np.float32]
LOWEST_RATE, HIGHEST_RATE = 1000, 192_000
"""Samples a second."""
MOST_CHANNELS = 8
LOUDEST = 8.0
"""Sounds lie in [-1, 1]; a decoder overshoots a little, whole numbers that were never scaled by thousands."""
SHORTEST = 0.025
"""Seconds under one window of the Fourier transform: of less there is no spectrum."""
RESAMPLER = "scipy.signal.resample_poly"
"""What changes rates. Others differ by about a thousandth, so that an artifact names it."""


@dataclass(frozen=True, eq=False)
class Waveform:
    """A sound with its rate.

    Attributes:
        samples: (N,) or (N, C): floats in [-1, 1], or whole numbers of 8 bits without sign, 16 or 32 bits.
        rate: samples a second, in Hz.
        name: what messages call it.
    """

    samples: NDArray[Any]
    rate: int
    name: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate


def at_rate(sounds: Any, rate: int, sampling_rate: int | None = None) -> list[Samples]:
    """Each sound as (N,) float32 of one channel at `rate`: channels are averaged, other rates resampled.

    Args:
        sounds: one or several, each a `Waveform`, or an array of samples at `sampling_rate`.

    Raises:
        UserError: there are none, a rate is missing or out of range, or a sound is empty, too short, not finite or of
            another kind; every such sound is named.
    """
    if isinstance(sounds, Waveform | np.ndarray):
        sounds = [sounds]
    problems, found = Problems("audio"), []
    if not problems.check(isinstance(sounds, Sequence) and len(sounds) > 0, "there is none; give one or several."):
        problems.done()
    for place, sound in enumerate(sounds):
        given = sound if isinstance(sound, Waveform) else Waveform(np.asarray(sound), sampling_rate or 0)
        name = given.name or f"item {place}"
        with problems.collecting():
            found.append(_at_rate(given, name, rate))
    problems.done()
    return found


def _at_rate(sound: Waveform, name: str, rate: int) -> Samples:
    _check_rate(sound.rate, name)
    samples = _one_channel(_scaled(np.asarray(sound.samples), name), name)
    loudest = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(loudest):
        raise UserError(f"{name} holds NaN or infinite samples.")
    if loudest > LOUDEST:
        raise UserError(
            f"{name} has floats up to {loudest:.6g}, and they are taken as lying in [-1, 1]: divide by the full scale,"
            " 32768 for 16 bits, or give whole numbers as they are."
        )
    if len(samples) < SHORTEST * sound.rate:
        told = "is empty" if not len(samples) else f"lasts {1000 * len(samples) / sound.rate:.3g} ms"
        raise UserError(f"{name} {told}; a sound must last {1000 * SHORTEST:g} ms or more.")
    return samples if sound.rate == rate else resampled(samples, int(sound.rate), rate)


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """(N · wanted / rate, rounded up) samples at another rate, by a polyphase filter (see `RESAMPLER`)."""
    from scipy.signal import resample_poly  # late: it takes a third of a second to import

    common = gcd(rate, wanted)
    found: Samples = resample_poly(samples, wanted // common, rate // common).astype(np.float32, copy=False)
    return found


def _check_rate(rate: Any, name: str) -> None:
    whole = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
    if not whole or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        told = "has no sampling rate" if not rate else f"has a sampling rate of {rate!r}"
        raise UserError(
            f"{name} {told}: give the samples a second that it was recorded with, a whole number from {LOWEST_RATE} to"
            f" {HIGHEST_RATE}, as sampling_rate=44100."
        )


def _scaled(samples: NDArray[Any], name: str) -> NDArray[Any]:
    """Floats as they are; whole numbers by their full scale."""
    if samples.dtype in (np.float16, np.float32, np.float64):
        return samples
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int16, np.int32):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    raise UserError(f"{name} holds {samples.dtype}; samples are float16, float32, float64, int16, int32 or uint8.")


def _one_channel(samples: NDArray[Any], name: str) -> Samples:
    if samples.ndim == 2 and 1 <= samples.shape[1] <= MOST_CHANNELS:
        samples = samples.mean(1, dtype=samples.dtype)
    elif samples.ndim != 1:
        raise UserError(
            f"{name} has shape {samples.shape}; it must be (samples,), or (samples, channels) with at most"
            f" {MOST_CHANNELS} channels. Give several sounds as a list, and transpose (channels, samples)."
        )
    return np.ascontiguousarray(samples, dtype=np.float32)


def windows(wave: Samples, longest: int) -> list[Samples]:
    """The wave cut into parts of `longest` samples, the last one as short as it comes."""
    return [wave[start : start + longest] for start in range(0, len(wave), longest)]
