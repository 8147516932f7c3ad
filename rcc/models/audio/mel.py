"""Compute log-mel spectrograms to the bit as Whisper's feature extractor does, of the frames that a signal touches.

A clip is padded with silence to its window. The log-mel energy of silence is a constant, so that frames which lie in
the padding alone are filled with it: of 3 s in a window of 30 s, nine in ten. `transformers.WhisperFeatureExtractor`
(its torch path) transforms them all; `tests/models/audio/test_mel.py` compares the two for every length modulo a hop.

Shapes: B clips, M mel bands, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HIGHEST_HZ = 8000.0
"""The upper end of Whisper's filter bank, whatever the rate. Radford et al., "Robust speech recognition via large-scale
weak supervision" (2022), section 2.2, and the extractor."""
LEAST_ENERGY = 1e-10
SILENCE = -10.0
"""The base-10 logarithm of `LEAST_ENERGY`, to which energies are raised."""
RANGE = 8.0
"""Nothing lies further below the loudest value of a window, in powers of ten."""
FEWEST_FRAMES = 64
"""A product with fewer columns goes through other kernels of the BLAS library, which add up in another order."""
BLOCK = 384
"""Frames that are transformed at a time, so that what they take stays in the processor's cache."""


@dataclass(frozen=True)
class LogMel:
    """The log-mel spectrogram of windows of a fixed length.

    Attributes:
        mels: M, bands of the filter bank.
        rate: samples a second that waves must have.
        hop: samples from one frame to the next.
        width: samples under the Hann window of a frame, and of its Fourier transform.
        seconds: length of a window.
    """

    mels: int = 80
    rate: int = 16_000
    hop: int = 160
    width: int = 400
    seconds: int = 30

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return self.seconds * self.rate

    @property
    def frames(self) -> int:
        """T, frames of a window."""
        return self.samples // self.hop

    def frames_of(self, samples: int) -> int:
        """Frames that begin within a signal: those that count as its own, of all that it touches."""
        return min(self.frames, -(-samples // self.hop))

    def __call__(self, waves: Sequence[NDArray[np.float32]]) -> Tensor:
        """(B, M, T) float32 for waves (N,) of one channel at `rate`, N at most `samples` each."""
        found = torch.empty(len(waves), self.mels, self.frames)
        for spectrogram, wave in zip(found, waves, strict=True):
            self._fill(spectrogram, wave)
        return found

    def _fill(self, spectrogram: Tensor, wave: NDArray[np.float32]) -> None:
        energies = spectrogram[:, : self._touched(len(wave))]
        frames = self._frames(wave, energies.shape[1])
        blocks = max(1, round(len(frames) / BLOCK))
        filters, start = _filters(self.mels, self.width, self.rate), 0
        for block in frames.chunk(blocks):
            spectrum = torch.view_as_real(torch.fft.rfft(block * _window(self.width)))
            real, imaginary = (spectrum[..., part].T.contiguous() for part in (0, 1))
            # As the absolute value of complex numbers, in a third of its time.
            energies[:, start : start + len(block)] = filters @ torch.hypot(real, imaginary).square_()
            start += len(block)
        energies.clamp_(min=LEAST_ENERGY).log10_()
        least = torch.clamp(energies.max() - RANGE, min=SILENCE)
        torch.maximum(energies, least, out=energies).add_(4.0).div_(4.0)
        spectrogram[:, energies.shape[1] :] = least.add(4.0).div(4.0)

    def _touched(self, samples: int) -> int:
        """Frames that a signal reaches into: they are centred, so that it goes on half a width beyond its end."""
        return min(self.frames, max(-(-(samples + self.width) // self.hop), FEWEST_FRAMES))

    def _frames(self, wave: NDArray[np.float32], count: int) -> Tensor:
        """(count, width) samples under each frame; beyond its ends a window is reflected."""
        side, inside = self.width // 2, min(count * self.hop, self.samples)
        padded = torch.zeros(inside + 2 * side)
        padded[side : side + len(wave)] = torch.from_numpy(wave)
        padded[:side] = padded[side + 1 : 2 * side + 1].flip(0)
        padded[-side:] = padded[-2 * side - 1 : -side - 1].flip(0)
        return padded.unfold(0, self.width, self.hop)[:count]


@lru_cache
def _window(width: int) -> Tensor:
    return torch.hann_window(width)


@lru_cache
def _filters(mels: int, width: int, rate: int) -> Tensor:
    """(M, width // 2 + 1) triangular filters on Slaney's mel scale, each of the same area."""
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=1 + width // 2,
        num_mel_filters=mels,
        min_frequency=0.0,
        max_frequency=HIGHEST_HZ,
        sampling_rate=rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).to(torch.float32).T
