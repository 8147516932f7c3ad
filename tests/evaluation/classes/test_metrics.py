"""Metrics of predicted classes against scikit-learn, against hand-made cases, and the rule for ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits
from rcc.evaluation.classes.metrics import class_measurement, confusions, ranked
from rcc.measurement import Measurement


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_ranks_and_predictions_agree_on_ties(rows: list[list[int]], data: st.DataObject) -> None:
    scores = torch.tensor(rows, dtype=torch.float32)
    labels = torch.tensor([data.draw(st.integers(0, 5)) for _ in rows])
    ranks, predictions = ranked(scores, labels)
    for row, label, rank, prediction in zip(rows, labels, ranks, predictions, strict=True):
        order = sorted(range(6), key=lambda index: (-row[index], index))
        assert order.index(int(label)) == rank
        assert order[0] == prediction


def measured(labels: list[int], predictions: list[int], classes: int) -> Measurement:
    """Of scores that are 1 for the class predicted and 0 for all others, in two blocks."""
    images = np.arange(4 * len(labels), dtype=np.uint8).repeat(3).reshape(-1, 2, 2, 3)
    split = Split("test", ArrayImages(images), labels=np.array(labels))
    names = tuple(f"class {index}" for index in range(classes))
    others = [Split(role, ArrayImages(images[:1] + step), labels=np.zeros(1, np.int64)) for step, role in
              ((100, "train"), (101, "calibration"), (102, "selection"))]  # fmt: skip
    splits = Splits(*others, split, names, ("{}",))
    scores = torch.nn.functional.one_hot(torch.tensor(predictions), classes).float()
    return class_measurement(scores.split(2), split, splits, torch.tensor(labels), of="")


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
@settings(deadline=None)
def test_the_mean_over_classes_is_balanced_accuracy(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = measured(labels, predictions, 6)
    expected = balanced_accuracy_score(labels, predictions)
    assert found["mean_class_accuracy"].value == pytest.approx(expected)


def test_a_hand_made_case() -> None:
    found = measured([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], 3)
    assert found["accuracy"].value == pytest.approx(4 / 6)
    mean = found["mean_class_accuracy"]
    assert mean.value == pytest.approx((3 / 4 + 1 / 2) / 2)  # class 2 does not occur
    assert mean.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 4 + 0.5 * 0.5 / 2) / 2)
    assert found.details["labels"] == [0, 0, 0, 0, 1, 1]
    assert found.details["predictions"] == [0, 0, 0, 1, 1, 0]
    assert found.details["ranks"] == [1, 1, 1, 2, 1, 2]
    per_image = found.details["per_image"]
    assert per_image["accuracy"] == [1, 1, 1, 0, 1, 0]
    assert per_image["mean_class_accuracy"] == pytest.approx([0.75, 0.75, 0.75, 0, 1.5, 0])


def test_a_class_of_one_image_leaves_the_mean_without_an_error() -> None:
    assert measured([0, 0, 1], [0, 0, 1], 2)["mean_class_accuracy"].standard_error is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
@settings(deadline=None)
def test_confusions_are_the_largest_off_diagonal_counts(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (torch.tensor(column) for column in zip(*pairs, strict=True))
    matrix = confusion_matrix(labels, predictions, labels=range(5))
    np.fill_diagonal(matrix, 0)
    found = confusions(labels, predictions, ("a", "b", "c", "d", "e"))
    assert [pair["count"] for pair in found] == [count for count in sorted(matrix.flatten())[::-1][:10] if count]
    for pair in found:
        assert matrix["abcde".index(pair["true"]), "abcde".index(pair["predicted"])] == pair["count"]
