"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from rcc.measurement import Metric
from rcc.reporting.formats import (
    bytes_text,
    clock_text,
    count_text,
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


def test_a_metric_shows_its_unit_and_its_error_when_asked_and_known():
    accuracy = Metric("accuracy", 0.9833, "fraction", standard_error=0.0067)
    latency = Metric("latency", 12.3456, "ms", higher_is_better=False, standard_error=0.25)
    assert metric_text(accuracy) == "98.33%"
    assert metric_text(accuracy, error=True) == "98.33% ± 0.67"
    assert metric_text(latency, error=True) == "12.35 ms ± 0.25"
    assert metric_text(Metric("loss", 0.5), error=True) == "0.5"
