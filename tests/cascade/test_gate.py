"""The gate: direction-aware retention, back-off by the specification's schedule, clear refusals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.cascade.gate import Gate, adaptive_compression_schedule, retention
from rcc.errors import UserError, WorkError
from rcc.measurement import Metric


def accuracy(value):
    return Metric("accuracy", value)


def loss(value):
    return Metric("loss", value, higher_is_better=False)


def test_retention_is_against_the_dense_model_and_knows_the_direction():
    assert retention(accuracy(0.8), accuracy(0.4)) == 0.5
    assert retention(loss(2.0), loss(4.0)) == 0.5
    assert retention(loss(2.0), loss(1.0)) == 2.0
    assert retention(loss(2.0), loss(0.0)) == math.inf


@pytest.mark.parametrize("dense", [0.0, math.nan, math.inf])
def test_retention_against_a_meaningless_dense_metric_is_refused(dense):
    with pytest.raises(WorkError, match="undefined"):
        retention(accuracy(dense), accuracy(0.5))


@pytest.mark.parametrize(
    ("performance", "ratio", "expected"),
    [
        (1.01, 0.5, 0.55),  # more than 5 points to spare: ×1.1
        (0.92, 0.5, 0.45),  # 3 points short: ×0.9
        (0.95, 0.5, 0.5),  # on target
        (0.94, 0.5, 0.5),  # within 2 points: unchanged
        (0.5, 0.105, 0.1),  # clamped from below
        (1.2, 0.95, 0.99),  # clamped from above
    ],
)
def test_the_adaptive_schedule_is_that_of_the_specification(performance, ratio, expected):
    assert adaptive_compression_schedule(performance, 0.95, ratio) == pytest.approx(expected)


def test_a_miss_within_two_points_is_still_softened():
    assert Gate().softer(0.8, 0.94) == pytest.approx(0.76)


@given(strength=st.floats(0.001, 0.99), kept=st.floats(0, 0.9499))
def test_backing_off_always_softens_and_always_ends(strength, kept):
    gate, tried = Gate(), 0
    while (softer := gate.softer(strength, kept)) is not None:
        assert 0.1 <= softer < strength
        strength, tried = softer, tried + 1
        assert tried < 60


def test_a_stage_without_a_strength_cannot_be_softened():
    assert Gate().softer(None, 0.2) is None


def test_a_metric_that_is_not_a_number_fails_and_is_softened_like_a_total_loss():
    assert Gate().problem(math.nan) == "the metric is not a number"
    assert Gate().softer(0.5, math.nan) == pytest.approx(0.45)


def test_the_threshold_itself_passes():
    assert Gate(0.95).problem(0.95) == ""
    assert "94.9%" in Gate(0.95).problem(0.949)


def test_all_wrong_options_are_reported_at_once():
    with pytest.raises(UserError) as error:
        Gate(threshold=1.5, tries=-1, on_failure="skipp", on_error="retry")
    assert len(error.value.problems) == 4
    assert "Did you mean 'skip'?" in str(error.value)
    assert error.value.exit_code == 2
