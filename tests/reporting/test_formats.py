"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from rcc.measurement import Difference, Interval, Metric
from rcc.reporting.formats import (
    bytes_text,
    clock_text,
    count_text,
    difference_text,
    interval_text,
    metric_text,
    ratio_text,
    seconds_text,
    share_text,
    strength_text,
)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_999, "1.00 MB"),
        (2_510_000, "2.51 MB"),
        (605_000_000, "605 MB"),
        (3_200_000_000, "3.20 GB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_bytes_have_three_significant_digits_and_a_decimal_unit(nbytes, text):
    assert bytes_text(nbytes) == text


def test_counts_read_like_bytes_without_the_unit():
    assert [count_text(count) for count in (784, 12_345, 1_212_416)] == ["784", "12.3 k", "1.21 M"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.424, "0.42 s"), (12.34, "12.3 s"), (59.96, "1m 00s"), (185, "3m 05s"), (3725, "1h 02m")],
)
def test_durations_grow_from_seconds_to_hours(seconds, text):
    assert seconds_text(seconds) == text


def test_clocks_show_an_unknown_time_as_dashes():
    assert [clock_text(seconds) for seconds in (None, 0.2, 42, 3725, -3)] == [
        "-:--",
        "0:00",
        "0:42",
        "1:02:05",
        "0:00",
    ]


def test_shares_are_percentages_and_undefined_ones_say_so():
    assert [share_text(share) for share in (None, 0.98333, 1.0, math.nan)] == [
        "-",
        "98.33%",
        "100.00%",
        "not a number",
    ]


def test_a_missing_strength_and_a_missing_size_are_dashes():
    assert [strength_text(strength) for strength in (None, 0.9, 0.4567, 0.0)] == ["-", "0.9", "0.457", "0"]
    assert [ratio_text(10, 4), ratio_text(10, 0)] == ["2.50×", "-"]


def test_a_metric_shows_its_unit_and_its_interval_when_asked_and_known():
    accuracy = Metric("accuracy", 0.9833, "fraction", interval=Interval(0.9641, 0.9923))
    assert metric_text(accuracy) == "98.33%"
    assert metric_text(accuracy, interval=True) == "98.33% (96.4 … 99.2)"
    assert metric_text(Metric("accuracy", 0.5, "fraction", interval=Interval(0.4, 0.6)), interval=True) == (
        "50.00% (40.0 … 60.0)"
    )
    assert metric_text(Metric("latency", 12.3, "ms", False, standard_error=0.25), interval=True) == (
        "12.3 ms (11.81 … 12.79)"
    )
    assert metric_text(Metric("loss", 0.5), interval=True) == "0.5"


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric("stored_bytes", 2_244_342, "bytes", False), "2.24 MB"),
        (Metric("flops", 35_343_360.0, "FLOPs", False), "35.3 M"),
        (Metric("nonzeros", 1_327_361, "parameters", False), "1.33 M"),
        (Metric("latency", 0.0322035, "s", False, 0.00038), "32.20 ms (31.5 … 32.9)"),
        (Metric("latency", 1.25, "s", False, None, Interval(1.1, 1.7)), "1.25 s (1.10 … 1.70)"),
        (Metric("throughput", 993.68, "items/s", True, None, Interval(971.3, 1016.2)), "993.7 items/s (971 … 1016)"),
        (Metric("throughput", 12345.6, "items/s", True, 234.0), "12350 items/s (11887 … 12804)"),
        (Metric("speedup", 2.0, "×", True, None, Interval(1.974, 2.026)), "2.00× (1.974 … 2.026)"),
        (Metric("latency", math.inf, "s"), "not a number"),
    ],
)
def test_costs_are_scaled_to_their_units(metric, text):
    assert metric_text(metric, interval=True) == text


@pytest.mark.parametrize(
    ("unit", "difference", "text"),
    [
        ("fraction", Difference(-0.0055, 0.0047), "-0.55 points"),
        ("fraction", Difference(0.0), "+0.00 points"),
        ("s", Difference(-0.012), "-12.00 ms"),
        ("bytes", Difference(-2_000_000), "-2.00 MB"),
        ("", Difference(0.25, 0.125), "+0.25"),
    ],
)
def test_a_difference_has_a_sign(unit, difference, text):
    assert difference_text(Metric("any", 1.0, unit), difference) == text


def test_the_interval_of_a_difference_has_signs():
    accuracy = Metric("accuracy", 0.98, "fraction")
    assert interval_text(Interval(-0.0106, 0.0106), accuracy, signed=True) == "-1.1 … +1.1"
    assert interval_text(Interval(0.5, 0.5), Metric("x", 1.0)) == "0.5 … 0.5"
    assert interval_text(Interval(-math.inf, 0.5), Metric("x", 1.0)) == "not a number"
