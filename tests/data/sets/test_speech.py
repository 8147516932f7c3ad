"""Sets of speech: spoken digits from tables, and folders of sounds."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toys.data_sets import write_fsdd, write_speech
from toys.files import sound, write_table

from rcc.data.registry import load_data
from rcc.data.splits import check_disjoint
from rcc.errors import UserError

SMALL = {"calibration": 4, "selection": 6}
Sets = Callable[[str], Path]


def test_spoken_digits_are_cut_from_their_official_parts(data_set: Sets) -> None:
    splits = load_data("fsdd", path=str(data_set("fsdd")), **SMALL)
    assert splits.sizes() == {"train": 20, "calibration": 4, "selection": 6, "test": 10}
    assert splits.class_names[:3] == ("zero", "one", "two")
    assert splits.test.inputs == ("audio",)
    assert sorted(splits.test.labels) == list(range(10))
    check_disjoint([splits.train, splits.calibration, splits.selection, splits.test])
    first = splits.test.fields["audio"][0]
    assert (first.rate, len(first.samples)) == (8000, 2400)


def test_a_recording_in_both_parts_stays_in_the_one_that_measures(tmp_path: Path, datasets_cache: None) -> None:
    write_fsdd(tmp_path)
    write_table(
        tmp_path / "test.parquet", {"audio": [sound(number, number) for number in range(10)], "label": range(10)}
    )
    splits = load_data("fsdd", path=str(tmp_path), **SMALL)
    assert splits.sizes()["train"] + splits.sizes()["calibration"] + splits.sizes()["selection"] == 20
    assert "are the same to the byte" in " ".join(splits.notes)


def test_another_set_is_no_set_of_digits(tmp_path: Path, datasets_cache: None) -> None:
    write_table(tmp_path / "train.parquet", {"audio": [sound(number) for number in range(12)], "label": range(12)})
    with pytest.raises(UserError, match=r"part 'train' has 12 classes, not the ten digits.*data=speech_folder"):
        load_data("fsdd", path=str(tmp_path), **SMALL)


def test_a_table_without_sounds_says_which_column_it_lacks(tmp_path: Path, datasets_cache: None) -> None:
    write_table(tmp_path / "train.parquet", {"label": [0, 1]})
    with pytest.raises(UserError, match="no column holds sounds; it may be called audio"):
        load_data("fsdd", path=str(tmp_path), **SMALL)


def test_folders_are_classes_of_sounds_in_any_format(data_set: Sets) -> None:
    splits = load_data("speech_folder", path=str(data_set("speech_folder")), calibration=4, selection=4, test=10)
    assert splits.class_names == ("go left", "stop")
    assert splits.sizes() == {"train": 10, "calibration": 4, "selection": 4, "test": 10}
    assert splits.templates == ()
    sounds = splits.train.fields["audio"]
    assert {sounds[index].rate for index in range(10)} == {8000, 16_000, 44_100}
    assert any("/deeper/" in sounds.name(index) for index in range(10))


def test_parts_are_kept_apart(tmp_path: Path) -> None:
    for start, part in enumerate(("train", "test")):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(6):
                content = sound(100 * start + number + 50 * (name == "b"))
                (tmp_path / part / name / f"{number}.wav").write_bytes(content)
    splits = load_data("speech_folder", path=str(tmp_path), calibration=2, selection=2)
    assert splits.sizes() == {"train": 8, "calibration": 2, "selection": 2, "test": 12}
    assert all("/test/" in splits.test.fields["audio"].name(index) for index in range(12))


def test_a_folder_without_sounds_says_what_is_a_sound(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 class folders .* hold no sound: 'a'\. Sounds are files that end in \.aif"):
        load_data("speech_folder", path=str(tmp_path))
    with pytest.raises(UserError, match=r"no folder for each class\. Expected: <class>/\*\.wav"):
        load_data("speech_folder", path=str(tmp_path / "a"))


def test_sounds_that_cannot_be_decoded_are_refused_or_left_out_by_name(tmp_path: Path) -> None:
    write_speech(tmp_path, 6)
    (tmp_path / "stop" / "0.wav").write_bytes(b"RIFFnothing")
    options = {"path": str(tmp_path), "calibration": 3, "selection": 3, "test": 3}
    splits = load_data("speech_folder", unreadable="skip", **options)
    assert sum(splits.sizes().values()) == 11
    assert "cannot be decoded and were left out" in " ".join(splits.notes)
    splits = load_data("speech_folder", **options)
    ((split, place),) = (
        (split, place)
        for _, split in splits
        for place in range(len(split))
        if split.fields["audio"].name(place).endswith("stop/0.wav")
    )
    with pytest.raises(UserError, match=r"stop/0\.wav' cannot be decoded"):
        split.items([place], ["audio"])


def test_a_table_of_sounds_with_class_names_is_read_too(tmp_path: Path, datasets_cache: None) -> None:
    from datasets import ClassLabel

    columns = {"audio": [sound(number, number % 2) for number in range(12)], "label": [0, 1] * 6}
    write_table(tmp_path / "train.parquet", columns, label=ClassLabel(names=["left", "right"]))
    splits = load_data("speech_folder", path=str(tmp_path), calibration=3, selection=3, test=3)
    assert splits.class_names == ("left", "right")
    assert np.bincount(splits.test.labels).sum() == 3


@pytest.mark.parametrize("name", ["fsdd", "speech_folder"])
def test_without_soundfile_the_extra_is_named(name: str, data_set: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"pip install 'rcc\[audio\]'"):
        load_data(name, path=str(data_set(name)))


def test_a_sound_of_the_fixtures_is_the_same_bytes_for_the_same_seed() -> None:
    assert sound(1, 2) == sound(1, 2) != sound(2, 2)
    assert io.BytesIO(sound(1)).read(4) == b"RIFF"
