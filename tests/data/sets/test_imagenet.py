"""ImageNet's folders: WordNet ids become labels and names; another shape is told apart from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys.data_sets import CLASSES, write_classes, write_imagenet
from toys.files import picture, write_table

from rcc.data.registry import load_data
from rcc.data.sets.class_lists import class_names, wnids
from rcc.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with six and val/ with four images of five classes. Read only."""
    root = write_imagenet(tmp_path_factory.mktemp("imagenet"))
    (root / "train" / "wnids.txt").write_text("no image")
    return root


def sizes(**given: int | None) -> dict[str, int | None]:
    return {"train": 5, "calibration": 5, "selection": 10, "test": None} | given


def test_test_is_the_validation_part_and_the_rest_comes_from_training(folder: Path) -> None:
    splits = load_data("imagenet", path=str(folder), **sizes())
    assert splits.sizes() == {"train": 5, "calibration": 5, "selection": 10, "test": 20}
    for role, split in splits:
        assert all(f"/{'val' if role == 'test' else 'train'}/" in split.images.name(i) for i in range(len(split)))
        assert np.bincount(split.labels)[list(CLASSES)].tolist() == [len(split) // 5] * 5
    assert len(splits.templates) == 80
    assert splits.class_names == class_names("imagenet")


def test_a_label_is_the_place_of_its_wordnet_id(folder: Path) -> None:
    split = load_data("imagenet", path=str(folder), **sizes()).test
    for index in range(len(split)):
        wnid = Path(split.images.name(index)).parent.name
        assert wnids()[split.labels[index]] == wnid
        assert class_names("imagenet")[split.labels[index]] in split.texts[index]


@pytest.mark.parametrize("where", ["val", "."])
def test_one_part_alone_is_cut_into_disjoint_splits(tmp_path: Path, where: str) -> None:
    write_classes(tmp_path / where, 4)
    splits = load_data("imagenet", path=str(tmp_path), **sizes(train=0, selection=5))
    assert splits.sizes() == {"train": 0, "calibration": 5, "selection": 5, "test": 10}
    names = [split.images.name(index) for _, split in splits for index in range(len(split))]
    assert len(set(names)) == 20


def test_per_class_takes_so_many_of_each(folder: Path) -> None:
    def names(seed: int) -> list[str]:
        few = load_data("imagenet", path=str(folder), per_class=2, seed=seed, **sizes(train=0, selection=5))
        assert few.sizes() == {"train": 0, "calibration": 5, "selection": 5, "test": 10}
        assert np.bincount(few.test.labels)[list(CLASSES)].tolist() == [2] * 5
        return sorted(few.test.images.name(index) for index in range(10))

    assert names(0) == names(0)
    assert names(0) != names(1)
    with pytest.raises(UserError, match="per_class is 0"):
        load_data("imagenet", path=str(folder), per_class=0)


def test_classes_present_alone_are_counted_anew(folder: Path) -> None:
    splits = load_data("imagenet", path=str(folder), classes="present", **sizes())
    assert splits.class_names == tuple(class_names("imagenet")[label] for label in CLASSES)
    assert np.bincount(splits.test.labels).tolist() == [4] * 5
    with pytest.raises(UserError, match="unknown classes 'some'"):
        load_data("imagenet", path=str(folder), classes="some")


def test_no_image_is_opened_before_it_is_asked_for(tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    splits = load_data("imagenet", path=str(tmp_path), **sizes(train=0, selection=5))
    Path(splits.test.images.name(0)).write_bytes(b"no longer an image")
    with pytest.raises(UserError, match="cannot be decoded"):
        splits.test.images[0]


def test_unknown_wordnet_ids_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 1)
    (tmp_path / "n99999999").mkdir()
    (tmp_path / "dogs").mkdir()
    with pytest.raises(UserError, match=r"2 of 7 folders .*: 'dogs', 'n99999999'\. .*data=image_folder"):
        load_data("imagenet", path=str(tmp_path))


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 1)
    (tmp_path / wnids()[5]).mkdir()
    with pytest.raises(UserError, match=rf"1 class folders of .* hold no image: '{wnids()[5]}'"):
        load_data("imagenet", path=str(tmp_path))


@pytest.mark.parametrize("entries", [["cat/1.jpg", "dog/1.jpg"], ["ILSVRC2012_val_00000001.JPEG"], ["val/a.JPEG"], []])
def test_another_shape_says_what_was_expected_and_what_was_found(tmp_path: Path, entries: list[str]) -> None:
    for entry in entries:
        (tmp_path / entry).parent.mkdir(exist_ok=True)
        (tmp_path / entry).write_bytes(picture(0))
    found = r"'cat/', 'dog/'" if len(entries) == 2 else rf"'{Path(entries[0]).name}'" if entries else "nothing"
    with pytest.raises(UserError, match=rf"not laid out as ImageNet\. Expected: train/<wnid>.*Found: {found}\."):
        load_data("imagenet", path=str(tmp_path))


def test_a_folder_that_does_not_exist_shows_what_is_beside_it(folder: Path) -> None:
    with pytest.raises(UserError, match=r"vall does not exist\. Did you mean 'val'\? .* holds 'train', 'val'"):
        load_data("imagenet", path=str(folder / "vall"))
    with pytest.raises(UserError, match=r"give data\.path=<folder>"):
        load_data("imagenet")
    with pytest.raises(UserError, match=r"path is 7; it must be one word or text"):
        load_data("imagenet", path=7)


def test_the_hubs_tables_are_read_and_their_unlabelled_test_part_is_not(tmp_path: Path) -> None:
    from datasets import ClassLabel

    label = ClassLabel(names=[f"name {number}" for number in range(1000)])
    for part, start, labels in (("train", 0, [3, 4] * 6), ("validation", 50, [3, 4] * 3), ("test", 90, [-1] * 4)):
        images = [picture(start + number) for number in range(len(labels))]
        write_table(tmp_path / f"{part}-00000-of-00001.parquet", {"image": images, "label": labels}, label=label)
    splits = load_data("imagenet", path=str(tmp_path), **sizes(train=None, calibration=2, selection=2))
    assert splits.sizes() == {"train": 8, "calibration": 2, "selection": 2, "test": 6}
    assert sorted(splits.test.labels.tolist()) == [3, 3, 3, 4, 4, 4]
    assert splits.class_names[3] == "tiger shark"
