"""Take sounds as users have them: paths, encoded bytes, arrays with their rate, one or many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcc.data.files.sounds import decoded
from rcc.errors import Problems, UserError
from rcc.limits import read_bytes
from rcc.models.audio.waveform import Waveform

KINDS = "a path, the bytes of a sound file, or an array of samples (N,) or (N, channels) with its sampling_rate"


def several_sounds(audio: Any) -> list[Any]:
    """The sounds one by one, not decoded yet: one alone, or several in a list.

    Raises:
        UserError: there are none, or one is of another kind; every such item is named.
    """
    if isinstance(audio, str | Path | bytes | np.ndarray | Waveform):
        audio = [audio]
    if not isinstance(audio, Sequence):
        raise UserError(f"audio is {type(audio).__name__}; give one sound or several in a list, each {KINDS}.")
    found, problems = list(audio), Problems("audio")
    problems.check(bool(found), f"there is none; give one sound or several, each {KINDS}.")
    for place, sound in enumerate(found):
        known = isinstance(sound, str | Path | bytes | np.ndarray | Waveform)
        problems.check(known, f"item {place} is {type(sound).__name__}; it must be {KINDS}.")
    problems.done()
    return found


def taken_sound(sound: Any, sampling_rate: int | None) -> Waveform:
    """The sound, decoded where it is a path or the bytes of a file, which know their rate.

    Raises:
        UserError: it cannot be read or decoded.
    """
    if isinstance(sound, Waveform):
        return sound
    if isinstance(sound, np.ndarray):
        return Waveform(sound, sampling_rate or 0)
    if isinstance(sound, bytes):
        return decoded(sound, "sound")
    try:
        return decoded(read_bytes(Path(sound), limit="audio_bytes"), str(sound))
    except OSError as error:
        raise UserError(f"sound '{sound}' cannot be read: {error.strerror or error}.") from error
