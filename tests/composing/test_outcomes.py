"""The table that a sweep ends with."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rcc.composing.outcomes import Outcome, front, table

OBJECTIVES = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=12)


def test_the_front_of_known_points() -> None:
    points = [(0.9, 100.0), (0.8, 50.0), (0.7, 60.0), (0.9, 120.0), (1.0, 200.0)]
    assert front(points) == {(0.9, 100.0), (0.8, 50.0), (1.0, 200.0)}


@given(OBJECTIVES)
def test_walking_up_in_bytes_the_front_is_where_retention_rises(points: list[tuple[float, float]]) -> None:
    best, expected = float("-inf"), set()
    for retention, nbytes in sorted(points, key=lambda point: (point[1], -point[0])):
        if retention > best:
            expected.add((retention, nbytes))
            best = retention
    assert front(points) == expected


def outcome(number: int, value: object, *overrides: str, error: str = "") -> Outcome:
    made = Outcome(number, overrides, Path("multirun/day/time") / str(number), error=error)
    made.take(value)
    return made


def test_the_table_shows_each_job_by_size_with_what_sets_it_apart() -> None:
    lines = table(
        [
            outcome(0, (0.99, 2000.0), "stage=dare", "seed=1"),
            outcome(1, (0.985, 1000.0), "stage=nullu+dare", "stage.dare.x=0.6219343632501507", "seed=1"),
            outcome(2, (0.97, 1500.0), "stage=alpha", "seed=1"),
            outcome(3, None, "stage=dar", "seed=1", error="x"),
        ]
    ).splitlines()
    assert lines == [
        "  job  retention   bytes  asked",
        "*   1     98.50%   1,000  stage=nullu+dare stage.dare.x=0.6219",
        "    2     97.00%   1,500  stage=alpha",
        "*   0     99.00%   2,000  stage=dare",
        "    3          -  failed  stage=dar",
        "* on the Pareto front: no other job keeps as much in as few bytes",
        "Each job's files: multirun/day/time/<job>",
    ]


def test_what_misses_its_target_or_violates_a_constraint_is_shown_and_is_not_on_the_front() -> None:
    small, large, off = (outcome(n, (0.9 + n / 100, 100.0 * (n + 1)), f"seed={n}") for n in range(3))
    small.missed, off.violated = "nothing fits", ("bytes<=200",)
    lines = table([small, large, off]).splitlines()
    assert lines[1] == "    0     90.00%    100  seed=0 (target missed)"
    assert lines[2] == "*   1     91.00%    200  seed=1"
    assert lines[3] == "    2     92.00%    300  seed=2 (not bytes<=200)"


def test_jobs_without_an_objective_have_no_front() -> None:
    text = table([outcome(0, None, "job=train", "seed=1"), outcome(1, None, "job=train", "seed=2")])
    assert "Pareto" not in text
    assert "failed" not in text
    assert "seed=2" in text
