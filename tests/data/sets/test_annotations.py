"""Caption files of COCO and Flickr: which are found, what is read of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys.data_sets import PARTS, write_karpathy
from toys.files import captions_of, picture

from rcc.data.registry import load_data
from rcc.data.sets.annotations import annotation_files, image_folder, karpathy_file, read_annotations, read_karpathy
from rcc.data.splits import Split
from rcc.errors import UserError


def numbers(split: Split) -> list[int]:
    return [int(Path(split.images.name(index)).stem) for index in range(len(split))]


def test_karpathys_file_gives_each_part_its_images_with_their_captions(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    file = karpathy_file(tmp_path)
    assert file == tmp_path / "dataset_coco.json"
    found = read_karpathy("coco", file)
    assert {part: len(images) for part, images in found.items()} == {"train": 8, "validation": 3, "test": 4}
    assert list(found["train"].items())[6] == ("val2014/0006.jpg", captions_of(PARTS["restval"][0]))


def test_karpathys_file_is_found_by_name_in_the_folder_and_in_its_annotations(tmp_path: Path) -> None:
    assert karpathy_file(tmp_path) is None
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "dataset_coco.json").write_text("{}")
    assert karpathy_file(tmp_path) == folder / "dataset_coco.json"
    (tmp_path / "mine.txt").write_text("")
    assert karpathy_file(tmp_path / "mine.txt") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSONDecodeError"),
        ('{"annotations": []}', "the file has no 'images'"),
        ('{"images": [{"filename": "a.jpg", "split": "train"}]}', "image 0 has no 'sentences'"),
        (
            '{"images": [{"filename": "a.jpg", "split": "odd", "sentences": []}]}',
            "the split 'odd' is none of",
        ),
    ],
)
def test_another_json_file_is_told_apart(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "dataset_coco.json").write_text(content)
    with pytest.raises(UserError, match=rf"is not laid out as a Karpathy caption file \({reason}"):
        load_data("coco", path=str(tmp_path))


def test_images_lie_in_the_first_folder_that_holds_one_of_a_few_of_each_part(tmp_path: Path) -> None:
    captions = {"train": {"gone.jpg": ["a"]}, "test": {"there.jpg": ["b"]}}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "there.jpg").write_bytes(b"")
    assert image_folder("flickr8k", tmp_path, captions, None) == tmp_path / "b"
    assert image_folder("flickr8k", tmp_path, captions, str(tmp_path / "b")) == tmp_path / "b"
    with pytest.raises(UserError, match=r"such as 'gone\.jpg', are not in .*data\.images=<folder>"):
        image_folder("flickr8k", tmp_path, captions, str(tmp_path / "a"))


def write_annotations(folder: Path, part: str, count: int, start: int, **changed: Any) -> Path:
    """COCO's own caption file of a part, ids out of order, and its images."""
    images, written = [], []
    (folder / part).mkdir(parents=True)
    for number in range(start, start + count):
        (folder / part / f"{number:012d}.jpg").write_bytes(picture(number, "JPEG"))
        images.append({"id": 7 * number, "file_name": f"{number:012d}.jpg", "height": 5, "width": 6})
        written += [
            {"id": 10 * number + time, "image_id": 7 * number, "caption": text}
            for time, text in enumerate(captions_of(number))
        ]
    (folder / "annotations").mkdir(exist_ok=True)
    file = folder / "annotations" / f"captions_{part}.json"
    file.write_text(json.dumps({"images": images, "annotations": written[::-1]} | changed))
    return file


def test_cocos_own_file_gives_captions_in_the_order_of_their_ids(tmp_path: Path) -> None:
    file = write_annotations(tmp_path, "val2017", 3, 4)
    assert annotation_files(tmp_path) == annotation_files(file) == [file]
    assert annotation_files(tmp_path / "val2017" / "000000000004.jpg") == []
    assert read_annotations("coco", [file]) == {
        "validation": {f"val2017/{number:012d}.jpg": captions_of(number) for number in (4, 5, 6)}
    }


def test_cocos_own_files_are_read_too(tmp_path: Path) -> None:
    write_annotations(tmp_path, "train2017", 6, 0)
    file = write_annotations(tmp_path, "val2017", 4, 6)
    alone = load_data("coco", path=str(file), images=str(tmp_path), calibration=1, selection=1)
    assert alone.sizes() == {"train": 0, "calibration": 1, "selection": 1, "test": 2}
    splits = load_data("coco", path=str(tmp_path), train=None, calibration=2, selection=1)
    assert splits.sizes() == {"train": 3, "calibration": 2, "selection": 1, "test": 4}
    assert sorted(numbers(splits.test)) == [6, 7, 8, 9]
    for _, split in splits:
        assert [list(written) for written in split.captions] == [captions_of(number) for number in numbers(split)]


def test_cocos_own_files_are_checked(tmp_path: Path) -> None:
    file = write_annotations(tmp_path, "val2014", 4, 0, annotations=[{"id": 1, "image_id": 99, "caption": "a"}])
    told = r"captions_val2014\.json' is not laid out as COCO's captions \(annotation 0 is of the image 99"
    with pytest.raises(UserError, match=told):
        load_data("coco", path=str(tmp_path))
    file.write_text(json.dumps({"images": [], "annotations": []}))
    write_annotations(tmp_path, "val2017", 1, 0)
    with pytest.raises(
        UserError, match=r"captions_val2014\.json, captions_val2017\.json\. Keep one file of train and one"
    ):
        load_data("coco", path=str(tmp_path))
