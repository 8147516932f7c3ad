"""Decode sounds one by one when asked for: WAV, FLAC and others that soundfile reads (extra `audio`).

What is kept is what was stored, so that a split of any length costs what its files cost. A sound keeps its rate and has
one channel: the model that reads it resamples, and its artifact names by what.
"""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

import numpy as np

from rcc.data.files.encoded import EncodedFiles
from rcc.errors import UserError
from rcc.limits import how_to_raise, limits
from rcc.models.audio.waveform import HIGHEST_RATE, MOST_CHANNELS, Samples, Waveform

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
"""What is decoded, as soundfile calls it. Others that it knows have no header, or are read by code that few use."""
EXTRA = "sounds are read by soundfile, which is not installed: pip install 'rcc[audio]'."
LEAVE_OUT = "Remove or replace the file, or have unreadable sounds left out with data.unreadable=skip."
BLOCK = 1 << 16
"""Samples of each channel that are decoded at a time: a header may promise any number."""


class EncodedSounds(EncodedFiles):
    """Sounds as files hold them, see `EncodedFiles`."""

    limit = "audio_bytes"
    noun = "sound"

    def __getitem__(self, index: Any) -> Any:
        """The `Waveform` at an index, decoded now; or, for a slice, those sounds, not decoded.

        Raises:
            IndexError: no sound there.
            UserError: it cannot be decoded; the message has its name and the reason.
        """
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        return decoded(self.encoded(place), self.name(place))


def soundfile() -> ModuleType:
    """The library that decodes.

    Raises:
        UserError: it is not installed.
    """
    try:
        import soundfile as library
    except (ModuleNotFoundError, OSError) as error:  # its wheel brings libsndfile; without it that of the system
        raise UserError(EXTRA) from error
    return library


def decoded(encoded: bytes, name: str) -> Waveform:
    """The sound in the bytes of a file, its channels averaged, at its own rate.

    Raises:
        UserError: the bytes are no sound of one of `FORMATS`, hold none, or one that is longer, of more channels or of
            a higher rate than is allowed.
    """
    library = soundfile()
    try:
        with library.SoundFile(io.BytesIO(encoded)) as file:
            _check_header(file, name)
            return Waveform(_read(file, name), int(file.samplerate), name)
    except UserError:
        raise
    except Exception as error:  # on damaged files the library raises errors of several kinds
        begins = f"it begins with {encoded[:8]!r}" if encoded else "it is empty"
        reason = getattr(error, "error_string", str(error)).rstrip(".")  # the whole shows an object's address
        raise UserError(f"sound '{name}' cannot be decoded ({reason}; {begins}). {LEAVE_OUT}") from error


def _check_header(file: Any, name: str) -> None:
    """Refuse a sound by its header, before memory is asked for."""
    if file.format not in FORMATS:
        raise UserError(f"sound '{name}' is {file.format}, which is none of {', '.join(FORMATS)}. {LEAVE_OUT}")
    if file.channels > MOST_CHANNELS or file.samplerate > HIGHEST_RATE:
        raise UserError(
            f"sound '{name}' has {file.channels} channels at {file.samplerate} Hz; at most {MOST_CHANNELS} and"
            f" {HIGHEST_RATE} Hz are decoded. {LEAVE_OUT}"
        )


def _read(file: Any, name: str) -> Samples:
    """All samples of a file, one channel, a block at a time."""
    most, blocks, count = limits.audio_seconds * file.samplerate, [], 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        count += len(block)
        if count > most:
            raise UserError(
                f"sound '{name}' lasts longer than {limits.audio_seconds} s, and no more is decoded. {LEAVE_OUT}"
                f" {how_to_raise('audio_seconds')}"
            )
        blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(1, dtype=np.float32))
    if not blocks:
        raise UserError(f"sound '{name}' holds no samples. {LEAVE_OUT}")
    return np.concatenate(blocks)
