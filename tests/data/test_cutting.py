"""Cutting splits out of official parts: sizes, seeds, sources, duplicates, unreadable images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.files import picture

from rcc.data.cutting import Cut, cut
from rcc.data.files.images import EncodedImages
from rcc.data.splits import Split, Splits
from rcc.errors import UserError


def part(name: str, numbers: list[int], classes: int = 0) -> Split:
    """Images told apart by their number, which is the last two bytes of what is stored."""
    labels = np.arange(len(numbers)) % classes if classes else None
    return Split(name, EncodedImages([str(n) for n in numbers], lambda i: b"%04d" % numbers[i]), labels=labels)


def numbers(split: Split) -> list[int]:
    return [int(split.images.name(index)) for index in range(len(split))]


def split_up(parts: dict[str, Split], seed: int = 0, classes: int = 0, **sizes: int | None) -> Splits:
    how = Cut(**{"train": None, "calibration": 2, "selection": 2, "test": 2} | sizes, seed=seed)
    return cut("it", parts, how, [str(label) for label in range(classes)], ["a {}"] if classes else [])


@pytest.mark.parametrize(
    ("present", "sources"),
    [
        (("train", "validation", "test"), {"train": 0, "calibration": 0, "selection": 1, "test": 2}),
        (("train", "test"), {"train": 0, "calibration": 0, "selection": 0, "test": 2}),
        (("train", "validation"), {"train": 0, "calibration": 0, "selection": 0, "test": 1}),
        (("validation", "test"), {"train": 1, "calibration": 1, "selection": 1, "test": 2}),
        (("test",), {"train": 2, "calibration": 2, "selection": 2, "test": 2}),
        (("all",), {"train": 3, "calibration": 3, "selection": 3, "test": 3}),
    ],
)
def test_each_split_comes_from_its_official_part(present: tuple[str, ...], sources: dict[str, int]) -> None:
    every = {
        name: part(name, list(range(100 * k, 100 * k + 20)))
        for k, name in enumerate(("train", "validation", "test", "all"))
    }
    splits = split_up({name: every[name] for name in present}, train=3)
    assert splits.sizes() == {"train": 3, "calibration": 2, "selection": 2, "test": 2}
    for role, split in splits:
        assert {number // 100 for number in numbers(split)} == {sources[role]}


@given(st.integers(8, 40), st.integers(0, 3), st.integers(1, 4))
def test_one_part_is_shared_out_without_overlap_or_loss(count: int, seed: int, classes: int) -> None:
    splits = split_up({"all": part("all", list(range(count)), classes)}, seed, classes)
    assert sorted(number for _, split in splits for number in numbers(split)) == list(range(count))
    assert len(splits.train) == count - 6


def test_splits_are_stratified_and_have_prompts_for_texts() -> None:
    splits = split_up({"all": part("all", list(range(40)), 4)}, classes=4, calibration=8, selection=12, test=16)
    for _, split in splits:
        assert np.bincount(split.labels, minlength=4).tolist() == [len(split) // 4] * 4
        assert split.texts == tuple(f"a {label}" for label in split.labels)


def test_null_takes_what_is_left_and_train_the_rest_of_nothing() -> None:
    splits = split_up({"all": part("all", list(range(20)))}, test=None)
    assert splits.sizes() == {"train": 0, "calibration": 2, "selection": 2, "test": 16}


def test_another_calibration_size_leaves_test_and_selection_alone() -> None:
    parts = {"all": part("all", list(range(30)))}
    first, second = split_up(parts), split_up(parts, calibration=9)
    assert numbers(first.test) == numbers(second.test)
    assert numbers(first.selection) == numbers(second.selection)


def test_what_is_in_test_too_is_left_out_of_training_and_counted() -> None:
    parts = {"train": part("train", list(range(10))), "test": part("test", [100, 3, 101, 7])}
    splits = split_up(parts, selection=1, calibration=1, test=None)
    assert sorted(numbers(splits.test)) == [3, 7, 100, 101]
    seen = [number for role, split in splits if role != "test" for number in numbers(split)]
    assert set(seen).isdisjoint({3, 7})
    assert len(splits.notes) >= 1
    assert sum(int(note.split()[0]) for note in splits.notes) == 2


def test_nothing_outside_the_splits_is_read() -> None:
    read: list[int] = []

    def stored(index: int) -> bytes:
        read.append(index)
        return b"%d" % index

    whole = Split("all", EncodedImages([str(n) for n in range(100)], stored))
    splits = split_up({"all": whole}, train=4)
    splits.fingerprint  # noqa: B018
    assert sorted(read) == sorted(number for _, split in splits for number in numbers(split))
    assert len(read) == 10


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test": 50}, r"part 'all' has 10 images, and 50 test \+ 2 selection \+ 2 calibration \+ 0 train are asked"),
        ({"test": None, "selection": None}, "make a split smaller to leave some for 'selection'"),
        ({"test": 0}, "test is 0; it must be a whole number ≥ 1"),
        ({"calibration": 2.5}, "calibration is 2.5; it must be a whole number"),
        ({"train": -1}, "train is -1; it must be a whole number ≥ 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_up({"all": part("all", list(range(10)))}, **sizes)


def test_a_data_set_without_images_is_refused() -> None:
    with pytest.raises(UserError, match="data 'it' holds no image"):
        split_up({"train": part("train", []), "test": part("test", [])})


def damaged(broken: set[int], count: int = 12) -> dict[str, Split]:
    stored = [picture(n)[:60] if n in broken else picture(n) for n in range(count)]
    return {"all": Split("all", EncodedImages([f"{n}.png" for n in range(count)], stored.__getitem__))}


def test_unreadable_images_are_left_out_and_listed() -> None:
    how = Cut(train=None, calibration=3, selection=3, test=3, unreadable="skip")
    splits = cut("it", damaged({2, 5, 7}), how)
    kept = [split.images.name(index) for _, split in splits for index in range(len(split))]
    assert sorted(kept) == sorted(f"{n}.png" for n in range(12) if n not in (2, 5, 7))
    assert all(f"'{n}.png'" in " ".join(splits.notes) for n in (2, 5, 7))
    assert sum(int(note.split()[0]) for note in splits.notes) == 3


def test_a_thin_image_is_left_out_by_name() -> None:
    stored = [picture(number, size=(1, 100_000) if number == 5 else (8, 8)) for number in range(12)]
    whole = {"all": Split("all", EncodedImages([f"{number}.png" for number in range(12)], stored.__getitem__))}
    splits = cut("it", whole, Cut(train=None, calibration=3, selection=3, test=3, unreadable="skip"))
    assert sum(splits.sizes().values()) == 11
    assert "'5.png'" in " ".join(splits.notes)


def test_unreadable_images_are_refused_by_name_when_they_are_met() -> None:
    splits = cut("it", damaged({4}), Cut(train=None, calibration=3, selection=3, test=3))
    assert sum(splits.sizes().values()) == 12
    with pytest.raises(UserError, match=r"'4\.png' cannot be decoded"):
        [list(split.images) for _, split in splits]


def test_skipping_looks_at_every_image_of_a_long_split() -> None:
    broken = {0, 63, 64, 150}
    splits = cut(
        "it", damaged(broken, count=160), Cut(train=0, calibration=1, selection=1, test=None, unreadable="skip")
    )
    assert sum(splits.sizes().values()) == 160 - len(broken)


def test_splits_that_skipping_left_empty_are_refused() -> None:
    with pytest.raises(UserError, match="split 'test' holds no image"):
        cut("it", damaged(set(range(12))), Cut(None, 3, 3, 3, unreadable="skip"))
    with pytest.raises(UserError, match="unknown unreadable 'ignore'"):
        Cut(None, 1, 1, 1, unreadable="ignore")
