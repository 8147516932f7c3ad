"""An interval: its standard error, the hull of two, a function of one, and the normal one of a standard error."""

from __future__ import annotations

import json

import pytest

from rcc.measurement import Difference, Interval, Measurement, Metric
from rcc.measurement.interval import normal_interval, normal_quantile


def test_a_normal_interval_has_its_standard_error_back() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959964, rel=1e-6)
    assert normal_interval(0.5, 0.01, 0.9).standard_error == pytest.approx(0.01)


def test_the_hull_holds_both_and_a_falling_function_changes_the_ends_over() -> None:
    assert Interval(0.1, 0.4).hull(Interval(0.2, 0.6)) == Interval(0.1, 0.6)
    assert Interval(2.0, 4.0, 0.9).mapped(lambda seconds: 8 / seconds) == Interval(2.0, 4.0, 0.9)


def test_a_number_with_a_standard_error_alone_has_the_normal_interval() -> None:
    assert Metric("a", 0.5, standard_error=0.01).bounds == normal_interval(0.5, 0.01)
    assert Difference(0.5, 0.01, Interval(0.4, 0.7)).bounds == Interval(0.4, 0.7)
    assert Metric("a", 0.5).bounds is None


def test_measurements_with_and_without_intervals_come_back_from_json() -> None:
    metrics = (Metric("a", 0.5, "fraction", True, 0.1, Interval(0.3, 0.7), 0.1), Metric("b", 2.0))
    measured = Measurement(metrics, "a", "test", 10)
    assert Measurement.from_json(json.loads(json.dumps(measured.to_json()))) == measured
    earlier = measured.to_json()
    for metric in earlier["metrics"]:
        del metric["interval"], metric["chance"]
    assert Measurement.from_json(earlier)["a"] == Metric("a", 0.5, "fraction", True, 0.1)
