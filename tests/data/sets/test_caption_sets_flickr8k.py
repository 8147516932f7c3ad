"""Flickr8k: its official parts become the splits, with every caption of every image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys.files import captions_of, picture, write_table

from rcc.data.registry import load_data
from rcc.errors import UserError


def numbers(split: object) -> list[int]:
    return [int(name.split("/")[1].split(".")[0]) for name in (split.images.name(i) for i in range(len(split)))]


def test_the_parts_become_the_splits(flickr8k_folder: Path) -> None:
    splits = load_data("flickr8k", path=str(flickr8k_folder), calibration=3)
    assert splits.sizes() == {"train": 9, "calibration": 3, "selection": 4, "test": 5}
    assert sorted(numbers(splits.train) + numbers(splits.calibration)) == list(range(12))
    assert sorted(numbers(splits.selection)) == list(range(12, 16))
    assert sorted(numbers(splits.test)) == list(range(16, 21))
    assert splits.class_names == ()
    assert splits.notes == ()


def test_each_image_has_its_own_captions_and_bytes(flickr8k_folder: Path) -> None:
    splits = load_data("flickr8k", path=str(flickr8k_folder), calibration=3)
    for _, split in splits:
        for index, number in enumerate(numbers(split)):
            assert split.captions[index] == tuple(captions_of(number))
            assert split.texts[index] == captions_of(number)[0]
            assert split.images.encoded(index) == picture(number, "JPEG")


def test_nothing_is_written_beside_the_files(flickr8k_folder: Path) -> None:
    before = sorted(flickr8k_folder.rglob("*"))
    load_data("flickr8k", path=str(flickr8k_folder), calibration=3)
    assert sorted(flickr8k_folder.rglob("*")) == before


def test_loading_says_nothing(flickr8k_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "train.parquet", {"image": [picture(n) for n in range(4)], "caption": list("abcd")})
    capfd.readouterr()
    load_data("flickr8k", path=str(tmp_path), calibration=1, selection=1, test=1)
    assert capfd.readouterr() == ("", "")


def test_the_seed_chooses_the_calibration_images(flickr8k_folder: Path) -> None:
    def chosen(seed: int) -> list[int]:
        return numbers(load_data("flickr8k", path=str(flickr8k_folder), calibration=6, seed=seed).calibration)

    assert chosen(0) == chosen(0)
    assert sorted(chosen(0)) != sorted(chosen(1))


def test_too_many_are_refused_with_the_numbers(flickr8k_folder: Path) -> None:
    with pytest.raises(UserError, match=r"part 'train' has 12 images, and 13 calibration \+ 0 train are asked"):
        load_data("flickr8k", path=str(flickr8k_folder), calibration=13)
    with pytest.raises(UserError, match="test is 0; it must be a whole number ≥ 1"):
        load_data("flickr8k", path=str(flickr8k_folder), test=0)


def test_images_without_captions_are_counted_and_named_or_left_out(tmp_path: Path) -> None:
    columns = {
        "image": [picture(n) for n in range(4)],
        "captions": [["one"], [], ["two"], [" "]],
        "filename": [f"{n}.jpg" for n in range(4)],
    }
    write_table(tmp_path / "train.parquet", columns)
    said = r"2 images have no caption: 'train/1\.jpg', 'train/3\.jpg'"
    with pytest.raises(UserError, match=rf"{said}\. Complete the tables, or .*data\.unpaired=skip"):
        load_data("flickr8k", path=str(tmp_path), calibration=1)
    for part, number in (("validation", 8), ("test", 9)):
        one = {"image": [picture(number)], "captions": [["a"]], "filename": [f"{number}.jpg"]}
        write_table(tmp_path / f"{part}.parquet", one)
    splits = load_data("flickr8k", path=str(tmp_path), calibration=1, unpaired="skip")
    assert splits.sizes() == {"train": 1, "calibration": 1, "selection": 1, "test": 1}
    assert {splits.train.captions[0], splits.calibration.captions[0]} == {("one",), ("two",)}
    assert len(splits.notes) == 1


def test_rows_without_an_image_are_counted(tmp_path: Path) -> None:
    write_table(tmp_path / "train.parquet", {"image": [picture(0), None, None], "caption": list("abc")})
    with pytest.raises(UserError, match="train: 2 rows have no image; the first is row 1"):
        load_data("flickr8k", path=str(tmp_path), calibration=1)


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    write_table(tmp_path / "train.parquet", {"image": [picture(0)], "words": ["a"]})
    with pytest.raises(UserError, match=r"no column holds captions; .*The columns are image, words"):
        load_data("flickr8k", path=str(tmp_path))


def test_images_stay_on_disk(flickr8k_folder: Path) -> None:
    images = load_data("flickr8k", path=str(flickr8k_folder), calibration=3).train.images
    assert np.asarray(images[0]).shape == (5, 6, 3)
    assert not any(isinstance(value, (bytes, np.ndarray)) and len(value) > 1000 for value in vars(images).values())
