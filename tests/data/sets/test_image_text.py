"""Captioned images of one's own: CSV, TSV, JSONL, shards and tables give the same splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toys.data_sets import Rows, write_csv
from toys.files import captions_of, picture, write_tar

from rcc.data.registry import load_data
from rcc.errors import UserError

SIZES = {"train": None, "calibration": 2, "selection": 2, "test": 3}


def write_jsonl(file: Path, rows: Rows) -> None:
    lists: dict[str, list[str]] = {}
    for path, text in rows:
        lists.setdefault(path, []).append(text)
    file.write_text("\n".join(json.dumps({"file_name": path, "texts": texts}) for path, texts in lists.items()))


@pytest.fixture
def images(tmp_path: Path) -> Rows:
    """Ten images under tmp_path/images, two captions each, one with a comma and a quote mark."""
    (tmp_path / "images").mkdir()
    for number in range(10):
        (tmp_path / "images" / f"{number}.png").write_bytes(picture(number))
    return [(f"{number}.png", text) for number in range(10) for text in captions_of(number, 2)]


@pytest.mark.parametrize(("name", "write"), [("a.csv", write_csv), ("a.tsv", write_csv), ("a.jsonl", write_jsonl)])
def test_lines_become_images_with_their_captions(
    tmp_path: Path, images: Rows, name: str, write: Callable[[Path, Rows], None]
) -> None:
    write(tmp_path / name, images)
    for path in (tmp_path / name, tmp_path):
        splits = load_data("image_text", path=str(path), **SIZES)
        assert splits.sizes() == {"train": 3, "calibration": 2, "selection": 2, "test": 3}
        for _, split in splits:
            for index in range(len(split)):
                number = int(Path(split.images.name(index)).stem)
                assert split.captions[index] == tuple(captions_of(number, 2))
                assert split.images[index].size == (6, 5)


def test_parts_come_from_file_names_or_from_a_column(tmp_path: Path, images: Rows) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "images").rename(tmp_path / "files" / "images")
    for part, rows in (("my_train", images[:12]), ("val", images[12:16]), ("test", images[16:])):
        write_csv(tmp_path / "files" / f"{part}.csv", rows)
    splits = load_data("image_text", path=str(tmp_path / "files"), train=None, calibration=2, selection=None, test=None)
    assert splits.sizes() == {"train": 4, "calibration": 2, "selection": 2, "test": 2}

    column = [
        {"image": path, "caption": text, "split": "train" if int(path[0]) < 6 else "test"} for path, text in images
    ]
    (tmp_path / "one.jsonl").write_text("\n".join(map(json.dumps, column)))
    where = {"path": str(tmp_path / "one.jsonl"), "images": str(tmp_path / "files" / "images")}
    splits = load_data("image_text", calibration=2, selection=2, **where)
    assert splits.sizes() == {"train": 2, "calibration": 2, "selection": 2, "test": 4}

    (tmp_path / "one.jsonl").write_text("\n".join(map(json.dumps, [*column, {"image": "0.png", "caption": "a"}])))
    with pytest.raises(UserError, match=r"some captions belong to a part \(test, train\) and some to none"):
        load_data("image_text", **where)


def test_columns_of_other_names_are_asked_for(tmp_path: Path, images: Rows) -> None:
    write_csv(tmp_path / "a.csv", images)
    text = (tmp_path / "a.csv").read_text(encoding="utf-8-sig").replace("path,caption", "photo,says")
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(
        UserError, match=r"no column 'image' or .* it has 'photo', 'says'\. .*data\.image_column=<name>"
    ):
        load_data("image_text", path=str(tmp_path), **SIZES)
    splits = load_data("image_text", path=str(tmp_path), image_column="photo", caption_column="says", **SIZES)
    assert splits.sizes()["test"] == 3
    with pytest.raises(UserError, match=r"no column 'said' for the caption"):
        load_data("image_text", path=str(tmp_path), image_column="photo", caption_column="said", **SIZES)


def test_halves_of_pairs_are_refused_with_counts_or_left_out(tmp_path: Path, images: Rows) -> None:
    write_csv(tmp_path / "a.csv", [*images[:-2], ("gone.png", "a photo"), ("5.png", " ")])
    with pytest.raises(UserError) as refused:
        load_data("image_text", path=str(tmp_path), **SIZES)
    assert [problem.split(": ")[2] for problem in refused.value.problems] == [
        "'gone.png'. Complete the set, or leave them out with data.unpaired=skip.",
        "'9.png'. Complete the set, or leave them out with data.unpaired=skip.",
    ]
    splits = load_data("image_text", path=str(tmp_path), unpaired="skip", **SIZES)
    assert sum(splits.sizes().values()) == 9
    assert len(splits.notes) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"image": "0.png", "caption": "a"}\n[1]\n', r"a\.jsonl' cannot be read: line 2 is no record"),
        ("a.jsonl", "{\n", r"a\.jsonl' cannot be read: "),
        ("a.csv", "image,caption\n,a\n", r"line 2 of .*a\.csv' names no image"),
        ("a.csv", b"image,caption\n\xff\xfe,a\n", r"a\.csv' cannot be read: 'utf-8' codec"),
        ("a.doc", "", r"holds no caption file \(\*\.csv, \*\.tsv, \*\.jsonl\)\. Found: 'images/', 'a\.doc'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, images: Rows, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        load_data("image_text", path=str(tmp_path), **SIZES)


def test_shards_are_read_and_their_names_tell_the_parts(tmp_path: Path) -> None:
    for part, numbers in (("train-000", range(6)), ("train-001", range(6, 8)), ("val-000", range(8, 11))):
        write_tar(tmp_path / f"{part}.tar", {f"{n:03d}": {"png": picture(n), "txt": f"image {n}"} for n in numbers})
    splits = load_data("image_text", path=str(tmp_path), train=None, calibration=2, selection=1, test=None)
    assert splits.sizes() == {"train": 5, "calibration": 2, "selection": 1, "test": 3}
    assert sorted(splits.test.captions) == [("image 10",), ("image 8",), ("image 9",)]
