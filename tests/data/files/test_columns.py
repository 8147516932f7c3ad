"""Columns of a table: which are images, captions and labels, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from toys.files import picture, write_table

from rcc.data.files.columns import captioned, captioned_parts, labelled, stored_images
from rcc.data.files.tables import read_tables
from rcc.errors import UserError


def table_of(folder: Path, columns: dict[str, list[Any]], **features: Any) -> Dataset:
    write_table(folder / "train.parquet", columns, **features)
    return read_tables("it", str(folder))["train"]


def pictures(count: int) -> list[bytes]:
    return [picture(number) for number in range(count)]


@pytest.mark.parametrize("column", ["captions", "sentence", "text", "raw"])
def test_captions_may_be_called_any_of_the_usual_names(tmp_path: Path, column: str) -> None:
    split, silent = captioned("it", "train", table_of(tmp_path, {"image": pictures(2), column: ["a", "b"]}))
    assert split.captions == (("a",), ("b",))
    assert silent == []


def test_numbered_captions_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    columns = {"image": pictures(1), "caption_10": ["ten"], "caption_2": ["two"], "caption_1": ["one"]}
    split, _ = captioned("it", "train", table_of(tmp_path, columns))
    assert split.captions == (("one", "two", "ten"),)


def test_rows_of_one_image_are_one_item_with_all_their_captions(tmp_path: Path) -> None:
    columns = {"image": [picture(0), picture(1), picture(0)], "image_id": [7, 8, 7], "caption": ["a", "b", "c"]}
    split, _ = captioned("it", "train", table_of(tmp_path, columns))
    assert split.captions == (("a", "c"), ("b",))
    assert [split.images.name(index) for index in range(2)] == ["train/7", "train/8"]


def test_images_without_a_caption_are_refused_or_left_out_and_named(tmp_path: Path) -> None:
    columns = {"image": pictures(3), "filename": ["a.png", "b.png", "c.png"], "caption": ["a", " ", "c"]}
    tables = {"train": table_of(tmp_path, columns)}
    with pytest.raises(UserError, match=r"1 images have no caption: 'train/b\.png'.*data\.unpaired=skip"):
        captioned_parts("it", tables, "refuse")
    parts, notes = captioned_parts("it", tables, "skip")
    assert parts["train"].captions == (("a",), ("c",))
    assert notes == ("1 images have no caption: 'train/b.png'; they were left out.",)


def test_a_table_that_stands_alone_is_divided_by_its_column_split(tmp_path: Path) -> None:
    columns = {"image": pictures(4), "caption": ["a", "b", "c", "d"], "split": ["train", "val", "restval", "test"]}
    parts, _ = captioned_parts("it", {"train": table_of(tmp_path, columns)}, "refuse")
    assert {name: part.captions for name, part in parts.items()} == {
        "train": (("a",), ("c",)), "validation": (("b",),), "test": (("d",),),
    }  # fmt: skip


def test_labels_come_with_the_names_that_the_table_has(tmp_path: Path) -> None:
    columns = {"image": pictures(3), "label": [1, 0, 1]}
    split, names = labelled("it", "train", table_of(tmp_path, columns, label=ClassLabel(names=["cat", "dog"])))
    assert names == ("cat", "dog")
    assert split.labels is not None
    assert split.labels.tolist() == [1, 0, 1]
    assert split.labels.dtype == np.int64


def test_labels_without_names_are_numbers_alone(tmp_path: Path) -> None:
    split, names = labelled("it", "train", table_of(tmp_path, {"image": pictures(2), "fine_label": [3, 4]}))
    assert names == ()
    assert split.labels is not None
    assert split.labels.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("labels", "told"), [(["cat", "dog"], "not whole-number labels"), ([0, -1], "holds the label -1")]
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: list[Any], told: str) -> None:
    with pytest.raises(UserError, match=f"column 'label' holds .*{told}|{told}"):
        labelled("it", "train", table_of(tmp_path, {"image": pictures(2), "label": labels}))


def test_images_are_read_when_asked_for_and_named_by_file_or_row(tmp_path: Path) -> None:
    images = stored_images("it", "train", table_of(tmp_path, {"image": pictures(2), "caption": ["a", "b"]}))
    assert [images.name(index) for index in range(2)] == ["image (row 0 of train)", "image (row 1 of train)"]
    assert images.stored(1) == picture(1)


def test_rows_without_an_image_are_refused_with_the_first(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"image": [picture(0), None, None], "caption": ["a", "b", "c"]})
    with pytest.raises(UserError, match="2 rows have no image; the first is row 1"):
        stored_images("it", "train", table)


@pytest.mark.parametrize(
    ("read", "columns", "told"),
    [
        (captioned, {"caption": ["a"]}, "no column holds images; it may be called image. The columns are caption"),
        (captioned, {"image": [picture(0)], "alt": ["a"]}, "no column holds captions; it may be called captions, "),
        (labelled, {"image": [picture(0)], "alt": ["a"]}, "no column holds labels; .*The columns are image, alt"),
    ],
)
def test_a_missing_column_is_told_with_its_names_and_what_there_is(
    tmp_path: Path, read: Any, columns: dict[str, list[Any]], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        read("it", "train", table_of(tmp_path, columns))
