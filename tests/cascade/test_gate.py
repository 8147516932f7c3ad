"""The gate: direction-aware retention and its interval, back-off by the specification's schedule, clear refusals."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.records import sized

from rcc.cascade.gate import Gate, adaptive_compression_schedule, retention, retention_interval
from rcc.cascade.records import Baseline
from rcc.errors import UserError, WorkError
from rcc.measurement import Interval, Measurement, Metric
from rcc.measurement.shares import paired_share_interval, share_interval


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


def test_a_step_is_not_softened_to_what_an_earlier_round_reached():
    assert Gate().softer(0.5, 0.5, least=0.44) == pytest.approx(0.45)
    assert Gate().softer(0.5, 0.5, least=0.45) is None


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


def right(*answers: int) -> tuple[float, ...]:
    return tuple(map(float, answers))


def dense(items, chance=None, **more):
    mean = sum(items) / len(items)
    metric = Metric("accuracy", mean, "fraction", interval=share_interval(mean, len(items)), chance=chance)
    return Baseline(Measurement((metric,), "accuracy", "selection", len(items)), sized(100), items=items, **more)


def test_the_interval_of_retention_is_that_of_the_paired_difference_over_the_dense_value():
    before, after = right(*[1] * 18, 0, 0), right(*[1] * 15, 0, 0, 0, 1, 0)
    found = retention_interval(accuracy(0.9), before, after)
    change = paired_share_interval(1, 3, 20)
    assert (found.low, found.high) == pytest.approx((1 + change.low / 0.9, 1 + change.high / 0.9))
    assert retention_interval(accuracy(0.9), before, ()) is None
    assert retention_interval(accuracy(0.9), (), ()) is None


def test_where_lower_is_better_the_retention_is_lowest_at_the_highest_value():
    before, after = (0.5, 1.5, 1.0), (0.6, 1.9, 1.4)
    found = retention_interval(loss(1.0), before, after)
    assert found.low < retention(loss(1.0), loss(1.3)) < found.high


def test_with_a_confidence_the_low_end_of_the_interval_decides():
    sure = Gate(0.95, confidence=0.9)
    assert sure.level == 0.9
    assert Gate(0.95).problem(0.97, Interval(0.93, 1.0)) == ""
    assert sure.problem(0.97, Interval(0.951, 1.0, 0.9)) == ""
    assert sure.problem(0.97, Interval(0.93, 1.0, 0.9)) == (
        "kept 97.0% of the dense model, but at 90% confidence perhaps only 93.0%, less than 95.0%"
    )
    assert sure.problem(0.9, Interval(0.8, 1.0, 0.9)) == "kept 90.0% of the dense model, less than 95.0%"
    assert "values by item" in sure.problem(0.97)
    assert (sure.judged(0.97, Interval(0.93, 1.0, 0.9)), Gate(0.95).judged(0.97, Interval(0.93, 1.0))) == (0.93, 0.97)


def test_with_a_confidence_a_model_at_the_threshold_rarely_passes():
    """Of models that lose 10 of 100 answers for good, at a threshold of 90 %, drawn again and again."""
    random, gate = np.random.default_rng(0), Gate(0.9, confidence=0.95)
    passed = without = 0
    for _ in range(400):
        lost = int(random.binomial(200, 0.1))
        before, after = right(*[1] * 200), right(*[0] * lost, *[1] * (200 - lost))
        interval = retention_interval(accuracy(1.0), before, after, gate.level)
        passed += not gate.problem(1 - lost / 200, interval)
        without += not Gate(0.9).problem(1 - lost / 200, interval)
    assert passed / 400 <= 0.05
    assert without / 400 >= 0.4


def test_items_too_few_to_show_that_nothing_is_lost_are_refused_with_how_many_it_takes():
    with pytest.raises(
        UserError, match=r"of 20 selection items a model that changes no answer .* Take (\d+) "
    ) as error:
        Gate(0.95, confidence=0.95).admit(dense(right(*[1] * 18, 0, 0)))
    needed = int(re.search(r"Take (\d+) ", str(error.value))[1])
    enough = right(*([1] * 9 + [0]) * 50)[:needed]
    gate = Gate(0.95, confidence=0.95)
    kept = retention_interval(accuracy(0.9), enough, enough, gate.level)
    assert gate.problem(1.0, kept) == ""
    assert gate.problem(1.0, retention_interval(accuracy(0.9), enough[:-1], enough[:-1], gate.level)) != ""


def test_a_confidence_without_values_by_item_or_at_a_threshold_of_one_is_refused():
    with pytest.raises(UserError, match="accuracy is no mean over items"):
        Gate(0.95, confidence=0.95).admit(replace(dense(right(1, 1, 0)), items=()))
    with pytest.raises(UserError, match="no step could pass"):
        Gate(1.0, confidence=0.95)
    for wrong in (0, 1, "high"):
        with pytest.raises(UserError, match="confidence"):
            Gate(confidence=wrong)


def test_an_allowance_below_one_standard_error_is_said_whatever_the_setting():
    few, many = dense(right(*[1] * 18, 0, 0)), dense(right(*([1] * 9 + [0]) * 40))
    note = Gate(0.95).admit(few).note
    assert note.startswith(
        "The gate allows 5.0 points of retention to be lost, less than one standard error (9.1 points)"
    )
    assert Gate(0.95).admit(many).note == ""
    wide = retention_interval(accuracy(0.9), right(*[1] * 90, *[0] * 10), right(*[1] * 60, *[0] * 30, *[1] * 10))
    assert "100 selection items" in Gate(0.95).too_few(wide, 100)
    assert Gate(0.5).too_few(wide, 100) == ""


def test_a_dense_model_that_is_not_known_to_beat_guessing_is_refused():
    guessing = right(*[1, 0, 0, 0, 0, 0, 0, 0, 0, 0] * 5)
    with pytest.raises(
        UserError, match=r"accuracy is 0\.1 on 50 selection items \(95% interval .* guessing reaches 0\.1:"
    ):
        Gate().admit(dense(guessing, chance=0.1))
    assert Gate(on_chance="continue").admit(dense(guessing, chance=0.1)).items == guessing
    assert Gate().admit(dense(guessing)).items == guessing  # nobody knows what guessing would reach
    assert Gate().admit(dense(right(*[1, 1, 0] * 10), chance=0.1)).items
