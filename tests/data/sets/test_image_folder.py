"""Image folders: classes from folder names, parts from sub-folders, names from a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys.data_sets import write_pets
from toys.files import picture, write_table

from rcc.data.registry import load_data
from rcc.errors import UserError

SMALL = {"calibration": 2, "selection": 2}


def test_folders_are_classes_and_their_names_are_read_as_words(tmp_path: Path) -> None:
    splits = load_data("image_folder", path=str(write_pets(tmp_path, 6)), **SMALL)
    assert splits.class_names == ("big dog", "cat")
    assert splits.templates == ("a photo of a {}.",)
    assert splits.sizes() == {"train": 0, "calibration": 2, "selection": 2, "test": 8}
    for index in range(8):
        folder = Path(splits.test.images.name(index)).relative_to(tmp_path).parts[0]
        assert splits.test.texts[index] == f"a photo of a {folder.replace('_', ' ')}."


def test_parts_are_kept_apart(tmp_path: Path) -> None:
    for start, part in enumerate(("train", "val", "test")):
        write_pets(tmp_path / part, 3, 100 * start)
    splits = load_data("image_folder", path=str(tmp_path), calibration=2, selection=None)
    assert splits.sizes() == {"train": 4, "calibration": 2, "selection": 6, "test": 6}
    assert np.bincount(splits.test.labels).tolist() == [3, 3]
    assert all("/val/" in splits.selection.images.name(index) for index in range(6))


def test_names_and_templates_can_be_given(tmp_path: Path) -> None:
    write_pets(tmp_path / "images", 4)
    (tmp_path / "names.json").write_text(json.dumps({"big_dog": "Great Dane", "cat": "tabby"}))
    options = {"path": str(tmp_path / "images"), "names": str(tmp_path / "names.json"), **SMALL}
    splits = load_data("image_folder", templates=["{}!"], **options)
    assert splits.class_names == ("Great Dane", "tabby")
    assert set(splits.test.texts) == {"Great Dane!", "tabby!"}
    (tmp_path / "names.json").write_text(json.dumps({"big_dog": "Great Dane"}))
    with pytest.raises(UserError, match="lacks a name for 1 classes: 'cat'"):
        load_data("image_folder", **options)
    (tmp_path / "names.json").write_text("[")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        load_data("image_folder", **options)
    with pytest.raises(UserError, match=r"templates are \['a dog'\]; .* hold '{}' once"):
        load_data("image_folder", templates=["a dog"], **options)


def test_an_image_in_two_parts_counts_for_the_one_that_measures(tmp_path: Path) -> None:
    write_pets(tmp_path / "train", 4)
    write_pets(tmp_path / "test", 4, start=2)  # its first dogs are the last of train
    splits = load_data("image_folder", path=str(tmp_path), **SMALL, test=None)
    assert len(splits.test) == 8
    lost = sum(int(note.split()[0]) for note in splits.notes)
    assert lost == 6
    assert sum(splits.sizes().values()) == 16 - lost


def test_unreadable_images_are_refused_or_left_out(tmp_path: Path) -> None:
    write_pets(tmp_path, 6)
    (tmp_path / "cat" / "0.png").write_bytes(picture(50)[:50])
    splits = load_data("image_folder", path=str(tmp_path), unreadable="skip", **SMALL)
    assert sum(splits.sizes().values()) == 11
    (note,) = splits.notes
    assert "cat/0.png" in note


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "GIF"), ("LA", "PNG"), ("I;16", "PNG")]
)
def test_images_of_other_modes_are_not_taken_for_unreadable(tmp_path: Path, mode: str, kind: str) -> None:
    write_pets(tmp_path, 4)
    Image.new(mode, (8, 8)).save(tmp_path / "cat" / f"odd.{kind.lower()}", kind)
    splits = load_data("image_folder", path=str(tmp_path), unreadable="skip", **SMALL)
    assert sum(splits.sizes().values()) == 9
    assert splits.notes == ()
    assert {image.mode for _, split in splits for image in split.images} == {"RGB"}


def test_a_folder_without_classes_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(picture(0))
    with pytest.raises(UserError, match=r"has no folder for each class\. Expected: <class>/\*\.jpg.*Found: '1\.jpg'"):
        load_data("image_folder", path=str(tmp_path))


def test_tables_with_labels_are_read_too(tmp_path: Path) -> None:
    from datasets import ClassLabel

    columns = {"image": [picture(number) for number in range(8)], "label": [0, 1] * 4}
    write_table(tmp_path / "train.parquet", columns, label=ClassLabel(names=["ant", "bee"]))
    splits = load_data("image_folder", path=str(tmp_path), **SMALL)
    assert splits.class_names == ("ant", "bee")
    write_table(tmp_path / "train.parquet", columns)
    with pytest.raises(UserError, match="class names in the parts' label columns must be there and the same"):
        load_data("image_folder", path=str(tmp_path), **SMALL)
