"""Sounds decoded when asked for: formats, names, and refusals by their header and their length."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from toys.files import sound

from rcc.data.files.sounds import EncodedSounds, decoded
from rcc.errors import UserError
from rcc.limits import limits


def written(samples: np.ndarray, rate: int = 8000, **options: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", **options})
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "near"), [("WAV", 1e-4), ("FLAC", 1e-4), ("AIFF", 1e-4), ("OGG", 0.2), ("MP3", 0.2)])
def test_every_format_gives_the_samples_at_their_rate(kind: str, near: float) -> None:
    found = decoded(sound(3, 1, kind), "tone")
    (samples, rate) = soundfile.read(io.BytesIO(sound(3, 1, "WAV")), dtype="float32")
    assert (found.rate, found.name, found.samples.dtype) == (rate, "tone", np.float32)
    assert np.abs(found.samples[:2000] - samples[:2000]).max() < near


def test_channels_are_averaged_over_several_blocks() -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (150_000, 2))
    found = decoded(written(stereo, subtype="FLOAT"), "stereo")
    assert np.abs(found.samples - stereo.mean(1)).max() < 1e-6
    assert found.seconds == 150_000 / 8000


def test_a_field_keeps_bytes_names_and_digests_and_decodes_one_by_one(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(sound(number % 2))
    field = EncodedSounds.of_files(paths)
    assert len(field) == 3
    assert field.name(2) == field[2].name == str(paths[2])
    assert field[-1].samples.tolist() == field[2].samples.tolist()
    digests = field.digests()
    assert (digests[0] == digests[2], digests[0] == digests[1]) == (True, False)
    assert [each.name for each in (field[1:][index] for index in range(2))] == [str(path) for path in paths[1:]]
    with pytest.raises(IndexError):
        field[3]
    paths[0].unlink()
    with pytest.raises(UserError, match=r"sound '.*0\.wav' cannot be read: No such file"):
        field[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be decoded (Format not recognised; it is empty)"),
        (b"RIFF", "it begins with b'RIFF'"),
        (b"\0" * 5000, "Format not recognised"),
        (written(np.zeros(0)), "holds no samples"),
        (written(np.zeros((100, 9))), "has 9 channels at 8000 Hz; at most 8 and 192000 Hz are decoded"),
        (written(np.zeros(100), 384_000), "at 384000 Hz"),
        (written(np.zeros(100), format="VOC"), "is VOC, which is none of WAV"),
    ],
)
def test_what_is_no_sound_is_refused_without_an_address(content: bytes, said: str) -> None:
    with pytest.raises(UserError) as refused:
        decoded(content, "it.wav")
    assert said in str(refused.value)
    assert "data.unreadable=skip" in str(refused.value)
    assert "0x" not in str(refused.value)


def test_a_sound_is_decoded_up_to_the_limit_of_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "audio_seconds", 10)
    assert decoded(written(np.zeros(80_000)), "ten").seconds == 10
    with pytest.raises(UserError, match=r"lasts longer than 10 s.*limits\.audio_seconds"):
        decoded(written(np.zeros(80_001)), "longer")


def test_a_header_that_promises_more_than_there_is_takes_no_memory_for_it() -> None:
    content = bytearray(written(np.full(4000, 0.5)))
    place = content.index(b"data") + 4
    content[place : place + 4] = (2**31 - 2).to_bytes(4, "little")
    assert len(decoded(bytes(content), "promise").samples) == 4000


def test_a_file_beyond_the_limit_of_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(sound(0))
    monkeypatch.setattr(limits, "audio_bytes", 100)
    with pytest.raises(UserError, match=r"limits\.audio_bytes"):
        EncodedSounds.of_files([tmp_path / "a.wav"])[0]


def test_without_soundfile_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"pip install 'rcc\[audio\]'"):
        decoded(b"", "any")
