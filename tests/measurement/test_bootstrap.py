"""The clustered bootstrap: scipy's own BCa intervals, clusters drawn whole, coverage, and what no resample shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rcc.measurement import Interval
from rcc.measurement.bootstrap import bootstrap_intervals, effective_items, mean_interval, mean_intervals


def ratio(sums):
    return sums[..., :1] / sums[..., 1:]


@pytest.mark.parametrize("draw", ["exponential", "normal", "counts"])
def test_a_mean_has_scipys_bca_interval(draw: str) -> None:
    """Within what two sets of resamples differ by. 'counts' has few kinds of clusters, which are drawn by kind."""
    random = np.random.default_rng(3)
    values = {
        "exponential": random.exponential(size=300),
        "normal": random.normal(size=300),
        "counts": random.integers(0, 4, 300).astype(float),
    }[draw]
    found = mean_interval(values)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4999, rng=np.random.default_rng(0)).confidence_interval
    assert (found.low, found.high) == pytest.approx(expected, abs=0.1 * (expected.high - expected.low))


def test_a_ratio_of_sums_has_scipys_bca_interval() -> None:
    random = np.random.default_rng(5)
    queries = random.integers(1, 6, 200)
    clusters = np.column_stack([random.binomial(queries, 0.2), queries])
    (found,) = bootstrap_intervals(clusters, ratio)

    def of_samples(hits, asked, axis=-1):
        return hits.sum(axis) / asked.sum(axis)

    options = {"paired": True, "n_resamples": 4999, "rng": np.random.default_rng(0)}
    expected = stats.bootstrap((clusters[:, 0], clusters[:, 1]), of_samples, **options).confidence_interval
    assert (found.low, found.high) == pytest.approx(expected, abs=0.1 * (expected.high - expected.low))


def test_captions_that_stand_and_fall_together_say_no_more_than_their_image() -> None:
    images = (np.random.default_rng(0).random(400) < 0.4).astype(float)
    (one,) = bootstrap_intervals(np.column_stack([images, np.ones(400)]), ratio)
    (five,) = bootstrap_intervals(np.column_stack([5 * images, np.full(400, 5)]), ratio)
    alone = mean_interval(np.repeat(images, 5))
    assert (five.low, five.high) == pytest.approx((one.low, one.high))
    assert five.high - five.low == pytest.approx(math.sqrt(5) * (alone.high - alone.low), rel=0.1)


def test_the_true_mean_is_covered_about_as_often_as_the_level_says() -> None:
    samples = np.random.default_rng(0).exponential(size=(300, 80))
    held = sum(each.low <= 1 <= each.high for each in mean_intervals(samples.T))
    assert 0.91 <= held / 300 <= 0.98


def test_intervals_are_the_same_each_time_and_columns_share_their_resamples() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    assert mean_intervals(values) == mean_intervals(values)
    first, *_ = mean_intervals(np.column_stack([values[:, 0], 2 * values[:, 0]]))
    _, double = mean_intervals(np.column_stack([values[:, 0], 2 * values[:, 0]]))
    assert (double.low, double.high) == pytest.approx((2 * first.low, 2 * first.high))
    assert mean_interval(values[:, 0], seed=1) != mean_interval(values[:, 0], seed=2)


def test_the_order_of_clusters_does_not_matter() -> None:
    random = np.random.default_rng(0)
    for values in (random.integers(0, 2, 100).astype(float), random.normal(size=100)):
        assert mean_interval(values) == mean_interval(values[::-1])


def test_what_no_resample_changes_is_that_number_alone() -> None:
    assert mean_interval(np.ones(20)) == Interval(1.0, 1.0)
    assert mean_interval(np.array([2.5])) == Interval(2.5, 2.5)


def test_a_clustered_share_is_worth_fewer_items() -> None:
    assert effective_items(0.5, math.sqrt(0.25 / 40), 100) == pytest.approx(40)
    assert effective_items(1.0, 0.0, 100) == 100
