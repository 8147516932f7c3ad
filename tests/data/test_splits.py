"""Splitting: exact sizes, stratified, seeded, disjoint by content, and loud about bad sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits, check_disjoint, stratified_order, stratified_parts
from rcc.errors import UserError


def numbered(name: str, values: list[int]) -> Split:
    """A split whose images are filled with the given values."""
    images = np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])
    return Split(name, ArrayImages(images), labels=np.zeros(len(values), np.int64))


@given(st.lists(st.integers(0, 4), min_size=4, max_size=80), st.integers(0, 2**32 - 1), st.data())
def test_every_slice_of_the_order_holds_each_class_in_proportion(
    labels: list[int], seed: int, data: st.DataObject
) -> None:
    array = np.array(labels)
    order = stratified_order(array, seed)
    assert sorted(order) == list(range(len(array)))
    start = data.draw(st.integers(0, len(array) - 1))
    stop = data.draw(st.integers(start, len(array)))
    # A slice of the order covers a stretch of [0, 1); a class with n items there has stretch · n of them, give or
    # take one, so two classes' shares differ by at most one item of each.
    shares = {c: (array[order[start:stop]] == c).sum() / (array == c).sum() for c in set(labels)}
    for first in shares:
        for second in shares:
            slack = 1 / (array == first).sum() + 1 / (array == second).sum()
            assert abs(shares[first] - shares[second]) <= slack + 1e-9


def test_parts_have_the_exact_sizes_and_no_item_in_common() -> None:
    labels = np.repeat(np.arange(5), 20)
    parts = stratified_parts(labels, {"a": 33, "b": 50, "c": 17}, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"a": 33, "b": 50, "c": 17}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    assert np.bincount(labels[parts["b"]]).tolist() == [10] * 5


def test_the_seed_decides_the_parts() -> None:
    labels = np.repeat(np.arange(4), 25)
    one, same, other = (stratified_parts(labels, {"a": 40}, seed)["a"] for seed in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()


def test_all_bad_sizes_are_reported_at_once() -> None:
    with pytest.raises(UserError, match=r"'selection' has size 0(.|\n)*'test' has size -3"):
        stratified_parts(np.zeros(9, np.int64), {"selection": 0, "test": -3}, seed=0)


def test_the_training_split_alone_may_be_empty() -> None:
    parts = stratified_parts(np.zeros(9, np.int64), {"test": 3, "train": 0}, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"test": 3, "train": 0}
    filled = [numbered(role, [i]) for i, role in enumerate(("calibration", "selection", "test"))]
    empty = Split("train", ArrayImages(np.zeros((0, 2, 2, 3), np.uint8)))
    assert Splits(empty, *filled, ("zero",)).sizes() == {"train": 0, "calibration": 1, "selection": 1, "test": 1}


def test_asking_for_more_items_than_exist_says_how_many_there_are() -> None:
    with pytest.raises(UserError, match="6 train \\+ 4 test = 10 items are asked for and 9 exist"):
        stratified_parts(np.zeros(9, np.int64), {"train": 6, "test": 4}, seed=0)


def test_an_image_in_two_splits_is_found_by_its_content() -> None:
    with pytest.raises(UserError) as error:
        check_disjoint([numbered("train", [1, 2, 3]), numbered("selection", [4]), numbered("test", [3, 5, 1])])
    assert error.value.problems == (
        "data: splits 'train' and 'test' have 2 images in common; splits must not overlap.",
    )


def test_splits_of_one_data_set_may_not_overlap() -> None:
    with pytest.raises(UserError, match="'calibration' and 'test' have 1 images in common"):
        Splits(
            numbered("train", [1]), numbered("calibration", [2]), numbered("selection", [3]), numbered("test", [2]),
            ("zero",), ("a {}",),
        )  # fmt: skip


def test_the_fingerprint_follows_every_part_of_the_content() -> None:
    def fingerprint(last: int = 4, name: str = "zero", template: str = "a {}") -> str:
        parts = [numbered(role, [i]) for i, role in enumerate(("train", "calibration", "selection"))]
        return Splits(*parts, numbered("test", [last]), (name,), (template,)).fingerprint

    changed = {fingerprint(), fingerprint(last=5), fingerprint(name="one"), fingerprint(template="the {}")}
    assert len(changed) == 4
    assert fingerprint() == fingerprint()


def test_a_split_refuses_lengths_that_differ_and_images_without_a_caption() -> None:
    images = ArrayImages(np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(UserError) as error:
        Split("train", images, (("one", "two"),), np.zeros(3, np.int64), ("one", "two", "three"))
    assert [problem.partition(": ")[2] for problem in error.value.problems] == [
        "2 images and 1 captions differ in number.",
        "2 images and 3 texts differ in number.",
        "2 images and 3 labels differ in number.",
    ]
    with pytest.raises(UserError, match="1 images have no caption; the first is 'image 1'"):
        Split("train", images, (("one",), ()))


def test_the_text_of_an_image_is_its_first_caption_unless_given() -> None:
    images = ArrayImages(np.zeros((2, 4, 4, 3), np.uint8))
    captions = (("a dog", "an animal"), ("a cat",))
    assert Split("train", images, captions).texts == ("a dog", "a cat")
    assert Split("train", images, captions, texts=("dog", "cat")).texts == ("dog", "cat")
    assert Split("train", images).texts == ()


def test_a_subset_takes_images_captions_labels_and_texts_along() -> None:
    images = ArrayImages(np.arange(3, dtype=np.uint8).repeat(12).reshape(3, 2, 2, 3))
    split = Split("train", images, (("a", "A"), ("b",), ("c",)), np.array([5, 6, 7]), ("x", "y", "z"))
    part = split.subset(np.array([2, 0]))
    assert [np.asarray(picture).max() for picture in list(part.images)] == [2, 0]
    assert part.captions == (("c",), ("a", "A"))
    assert part.labels is not None
    assert part.labels.tolist() == [7, 5]
    assert part.texts == ("z", "x")


def test_empty_splits_and_labels_without_a_name_are_refused_together() -> None:
    empty = Split("test", ArrayImages(np.zeros((0, 2, 2, 3), np.uint8)))
    with pytest.raises(UserError) as error:
        Splits(numbered("train", [1]), numbered("calibration", [2]), numbered("selection", [3]), empty)
    problems = " ".join(error.value.problems)
    assert "split 'test' holds no image" in problems
    assert "split 'train' has the label 0 and there are 0 class names" in problems


def test_take_gives_the_first_items_and_refuses_what_is_not_there() -> None:
    split = numbered("train", [7, 8, 9])
    assert [np.asarray(picture).max() for picture in list(split.take(2).images)] == [7, 8]
    with pytest.raises(UserError, match="holds 3 items; 4 were asked for"):
        split.take(4)


def test_the_fingerprint_of_a_split_tells_images_captions_and_labels_apart(digits: Splits) -> None:
    split = digits.calibration.take(4)
    others = [
        Split("calibration", split.images[::-1], (), split.labels, split.texts),
        Split("calibration", split.images, tuple((text,) for text in split.texts), split.labels),
        Split("calibration", split.images, (), split.labels, ("another", *split.texts[1:])),
        Split("calibration", split.images, (), split.labels[::-1].copy(), split.texts),
        digits.calibration.take(3),
    ]
    assert digits.calibration.take(4).fingerprint == split.fingerprint
    assert len({split.fingerprint, *(other.fingerprint for other in others)}) == 6
