"""Paired differences: McNemar's formula, images drawn again, what has no error, intervals where nothing changed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits
from rcc.evaluation.classes.metrics import class_measurement
from rcc.evaluation.retrieval.metrics import recalls_per_image, retrieval_metrics
from rcc.evaluation.retrieval.ranks import Pairs, retrieval_ranks
from rcc.measurement import Difference, Measurement, Metric
from rcc.measurement.bootstrap import mean_interval
from rcc.measurement.paired import differences, paired_intervals
from rcc.measurement.shares import paired_share_interval

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def measured(values: list[float], name: str = "accuracy") -> Measurement:
    mean = sum(values) / len(values)
    metrics = (Metric(name, mean, "fraction"), Metric("bleu", 0.5))
    details = {"any": {"per_image": {name: values, "bleu": [0.0] * len(values)}}, "cost": {"note": "one thread"}}
    return Measurement(metrics, name, "test", len(values), details)


@given(ANSWERS)
def test_right_and_wrong_answers_have_mcnemars_error(answers: list[tuple[bool, bool]]) -> None:
    ours, theirs = ([float(pair[side]) for pair in answers] for side in (0, 1))
    n, only_ours = len(answers), sum(a and not b for a, b in answers)
    only_theirs = sum(b and not a for a, b in answers)
    found = differences(measured(ours), measured(theirs))["accuracy"]
    assert found.value == pytest.approx((only_ours - only_theirs) / n, abs=1e-12)
    expected = math.sqrt(only_ours + only_theirs - (only_ours - only_theirs) ** 2 / n) / n
    assert found.standard_error == pytest.approx(expected, abs=1e-9)


def test_it_agrees_with_images_drawn_again() -> None:
    draw = torch.Generator().manual_seed(0)
    ours = torch.randn(200, generator=draw, dtype=torch.float64)
    theirs = ours + 0.3 * torch.randn(200, generator=draw, dtype=torch.float64)
    error = differences(measured(ours.tolist()), measured(theirs.tolist()))["accuracy"].standard_error
    again = torch.randint(200, (4000, 200), generator=draw)
    assert error == pytest.approx(float((ours - theirs)[again].mean(1).std()), rel=0.05)
    assert error is not None
    assert error < 0.5 * float(ours.std()) / math.sqrt(200)


def test_what_is_no_mean_over_the_same_images_has_no_error() -> None:
    found = differences(measured([1.0, 0.0]), measured([1.0, 0.0]))
    assert found == {
        "accuracy": Difference(0.0, 0.0, paired_share_interval(0, 0, 2)),
        "bleu": Difference(0.0, None),
    }
    assert differences(measured([1.0]), measured([1.0, 0.0]))["accuracy"] == Difference(0.5, None)
    assert differences(measured([1.0], "recall"), measured([1.0])) == {"bleu": Difference(0.0, None)}


def test_details_of_one_evaluator_are_read_as_those_of_several() -> None:
    nested = measured([1.0, 0.0, 1.0])
    flat = replace(nested, details=nested.details["any"])
    assert differences(flat, nested) == differences(nested, nested)


def test_right_and_wrong_answers_have_tangos_interval_and_other_values_at_least_that_of_their_bootstrap() -> None:
    before, after = np.array([1.0, 1, 0, 1, 1, 1, 0, 1]), np.array([1.0, 0, 1, 1, 0, 0, 0, 1])
    recall = np.arange(8) / 8
    shares, same, means = paired_intervals([(before, after), (recall, recall), (recall, recall * after)])
    assert shares == paired_share_interval(1, 3, 8)
    bound = paired_share_interval(0, 0, 8).high  # of how many images may change; each by at most the largest value seen
    assert (same.low, same.high) == pytest.approx((-7 / 8 * bound, 7 / 8 * bound))
    drawn = mean_interval(recall * after - recall)
    assert (means.low <= drawn.low, means.high >= drawn.high) == (True, True)
    assert means.low < float((recall * after - recall).mean()) < means.high


def test_each_level_has_its_own_interval_and_a_higher_one_holds_the_lower() -> None:
    ours, theirs = measured([1.0, 0.0, 1.0, 1.0]), measured([1.0, 1.0, 1.0, 0.0])
    wide, narrow = (differences(ours, theirs, level)["accuracy"].interval for level in (0.95, 0.5))
    assert wide is not None
    assert narrow is not None
    assert wide.hull(narrow) == wide
    assert (wide.level, narrow.level) == (0.95, 0.5)


def test_what_each_image_adds_to_accuracies_and_recalls_has_the_metric_for_its_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    images = ArrayImages(np.arange(120 * 12, dtype=np.int64).astype(np.uint16).view(np.uint8).reshape(120, 4, -1, 3))
    every = Split("test", images, labels=np.arange(120) % 7)
    parts = [every.subset(range(start, start + 30)) for start in (0, 30, 60, 90)]
    splits, split = Splits(*parts, tuple("abcdefg"), ("{}",)), parts[-1]
    labels = torch.from_numpy(split.labels)
    scores = torch.rand(30, 7, generator=draw) + F.one_hot(labels, 7) * 0.4
    classes = class_measurement([scores], split, splits, labels, of="")
    pairs = Pairs.of([[2 * i, 2 * i + 1] for i in range(9)], [[i // 2] for i in range(18)], 9, 18)
    ranks = retrieval_ranks(torch.rand(9, 5, generator=draw), torch.rand(18, 5, generator=draw), pairs)
    recalls = {metric.name: metric for metric in retrieval_metrics(ranks, pairs) if "median" not in metric.name}
    found = classes.details["per_image"] | recalls_per_image(ranks, pairs)
    metrics = {metric.name: metric for metric in classes.metrics} | recalls
    assert set(found) == set(metrics)
    for name, values in found.items():
        values = torch.tensor(values, dtype=torch.float64)
        assert float(values.mean()) == pytest.approx(metrics[name].value)
        if name != "mean_class_accuracy":  # its own error is that of images drawn class by class
            error = float(values.std(correction=0)) / math.sqrt(len(values))
            assert error == pytest.approx(metrics[name].standard_error, abs=1e-12)
