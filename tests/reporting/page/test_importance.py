"""What a search's result depends on is told from its trials."""

from __future__ import annotations

from rcc.reporting.page.importance import LEAST_TRIALS, importances


def test_the_option_that_decides_is_told_from_the_one_that_does_not():
    points = [{"decides": index / 40, "idle": (index * 7 % 40) / 40, "fixed": 1.0} for index in range(40)]
    found = importances(points, [[point["decides"]] for point in points], ["maximize"])
    assert list(found) == ["decides", "idle"]
    assert found["decides"] > 0.8
    assert abs(sum(found.values()) - 1) < 1e-6


def test_names_and_options_that_some_trials_lack_are_weighed():
    points = [{"stage": "ab"[index % 2]} | ({"rank": index / 40} if index % 2 else {}) for index in range(40)]
    values = [[0.9 if point["stage"] == "a" else 0.5, 100.0 + index] for index, point in enumerate(points)]
    assert set(importances(points, values, ["maximize", "minimize"])) <= {"stage", "rank"}


def test_too_few_trials_say_nothing():
    assert importances([{"a": 1.0}] * (LEAST_TRIALS - 1), [[1.0]] * (LEAST_TRIALS - 1), ["maximize"]) == {}
    assert importances([{"a": 1.0}] * 20, [[1.0]] * 20, ["maximize"]) == {}
