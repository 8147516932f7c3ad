"""COCO and Flickr by Karpathy's files: his parts, every caption, and what is missing said before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys.data_sets import write_karpathy
from toys.files import captions_of, picture, write_table

from rcc.data.registry import load_data
from rcc.data.splits import Split
from rcc.errors import UserError


def numbers(split: Split) -> list[int]:
    return [int(Path(split.images.name(index)).stem) for index in range(len(split))]


@pytest.mark.parametrize("name", ["coco", "flickr30k", "flickr8k"])
def test_karpathys_parts_become_the_splits(tmp_path: Path, name: str) -> None:
    write_karpathy(tmp_path, name)
    splits = load_data(name, path=str(tmp_path), train=None, calibration=3, selection=None)
    assert splits.sizes() == {"train": 5, "calibration": 3, "selection": 3, "test": 4}
    assert sorted(numbers(splits.train) + numbers(splits.calibration)) == list(range(8))
    assert sorted(numbers(splits.selection)) == [8, 9, 10]
    assert sorted(numbers(splits.test)) == [11, 12, 13, 14]
    for _, split in splits:
        assert [list(written) for written in split.captions] == [captions_of(number) for number in numbers(split)]
        assert split.images[0].size == (6, 5)


def test_the_images_may_lie_elsewhere_and_the_file_may_be_named(tmp_path: Path) -> None:
    write_karpathy(tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    file = (tmp_path / "images" / "dataset_coco.json").rename(tmp_path / "annotations" / "dataset_coco.json")
    options = {"calibration": 3, "selection": None}
    assert load_data("coco", path=str(tmp_path), **options).sizes()["test"] == 4
    assert load_data("coco", path=str(file), images=str(tmp_path / "images"), **options).sizes()["test"] == 4
    with pytest.raises(UserError, match=r"such as 'train2014/0000\.jpg', are not in .*data\.images=<folder>"):
        load_data("coco", path=str(file), **options)


def test_captions_without_their_image_and_images_without_captions_are_counted_and_named(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    for number in (2, 4):
        (tmp_path / "train2014" / f"{number:04d}.jpg").unlink()
    (tmp_path / "val2014" / "9999.jpg").write_bytes(picture(9999))
    file = tmp_path / "dataset_coco.json"
    content = json.loads(file.read_text())
    content["images"][-1]["sentences"] = [{"raw": " "}]
    file.write_text(json.dumps(content))
    options: dict[str, Any] = {"path": str(tmp_path), "train": None, "calibration": 1, "selection": None}
    with pytest.raises(UserError) as refused:
        load_data("coco", **options)
    missing, blank, silent = refused.value.problems
    assert "2 captioned images are not in" in missing
    assert "'train2014/0002.jpg', 'train2014/0004.jpg'" in missing
    assert "1 images have only blank captions: 'val2014/0014.jpg'" in blank
    assert "have no caption: 'val2014/9999.jpg'" in silent
    splits = load_data("coco", unpaired="skip", **options)
    assert splits.sizes() == {"train": 5, "calibration": 1, "selection": 3, "test": 3}
    assert len(splits.notes) == 3
    with pytest.raises(UserError, match="unknown unpaired 'ignore'"):
        load_data("coco", unpaired="ignore", **options)


def test_a_folder_without_captions_shows_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"neither parquet files nor dataset_flickr30k\.json\. Found: 'notes\.txt'"):
        load_data("flickr30k", path=str(tmp_path))


def test_one_table_is_divided_by_its_split_column(tmp_path: Path) -> None:
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    columns = {
        "image": [picture(number) for number in range(11)],
        "caption": [captions_of(number) for number in range(11)],
        "split": splits,
        "filename": [f"{number}.jpg" for number in range(11)],
    }
    write_table(tmp_path / "test-00000-of-00001.parquet", columns)
    found = load_data("flickr30k", path=str(tmp_path), calibration=2)
    assert found.sizes() == {"train": 4, "calibration": 2, "selection": 2, "test": 3}
    assert {found.test.images.name(index) for index in range(3)} == {f"test/{number}.jpg" for number in (8, 9, 10)}


def test_a_row_or_a_column_for_each_caption_are_read_as_well(tmp_path: Path) -> None:
    rows = [number for number in range(6) for _ in range(2)]
    columns = {
        "image": [picture(number) for number in rows],
        "caption": [f"{number}, line {line % 2}" for line, number in enumerate(rows)],
        "image_id": rows,
    }
    write_table(tmp_path / "rows" / "train.parquet", columns)
    sizes = {"train": None, "calibration": 2, "selection": 1, "test": 1}
    splits = load_data("coco", path=str(tmp_path / "rows"), **sizes)
    assert splits.sizes() == {"train": 2, "calibration": 2, "selection": 1, "test": 1}
    for _, split in splits:
        for index in range(len(split)):
            number = split.images.name(index).split("/")[1]
            assert split.captions[index] == (f"{number}, line 0", f"{number}, line 1")

    wide = {"image": [picture(number) for number in range(6)]}
    wide |= {f"caption_{time}": [f"{number}, column {time}" for number in range(6)] for time in (0, 1, 10)}
    write_table(tmp_path / "wide" / "train.parquet", wide)
    written = load_data("coco", path=str(tmp_path / "wide"), **sizes).test.captions[0]
    assert [text.split(", ")[1] for text in written] == ["column 0", "column 1", "column 10"]


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    write_karpathy(tmp_path, "flickr30k")
    (tmp_path / "flickr30k-images" / "._0001.jpg").write_bytes(b"macOS")
    assert load_data("flickr30k", path=str(tmp_path), calibration=1).notes == ()
