"""The estimate of the time left, on a clock that the test moves."""

from __future__ import annotations

import pytest
from toys.records import steps_of

from rcc.reporting.time_left import TimeLeft


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def finish(time_left: TimeLeft, clock: Clock, step, seconds: float) -> None:
    time_left.step_started(step)
    clock.now += seconds
    time_left.step_finished(step)


def test_nothing_is_promised_before_a_step_is_finished(clock):
    time_left = TimeLeft(clock)
    steps = steps_of("dare", "nullu")
    time_left.plan(steps, 0)
    time_left.step_started(steps[0])
    clock.now += 5
    assert time_left.left is None
    assert time_left.elapsed == 5


def test_a_stage_that_ran_before_is_expected_to_take_as_long_again(clock):
    time_left = TimeLeft(clock)
    steps = steps_of("dare", "nullu", rounds=2)
    time_left.plan(steps, 0)
    finish(time_left, clock, steps[0], 4)
    assert time_left.left == 4 * 3  # nothing known of nullu: the mean
    finish(time_left, clock, steps[1], 10)
    assert time_left.left == 4 + 10


def test_time_spent_in_the_running_step_counts_over_all_its_attempts_and_never_goes_below_zero(clock):
    time_left = TimeLeft(clock)
    steps = steps_of("dare", "dare_2", "alpha")
    time_left.plan(steps, 0)
    finish(time_left, clock, steps[0], 10)
    time_left.step_started(steps[1])
    clock.now += 4
    time_left.step_started(steps[1])  # second attempt
    clock.now += 3
    assert time_left.left == 3 + 10
    clock.now += 100
    assert time_left.left == 10


def test_a_resumed_run_expects_only_the_steps_that_are_left(clock):
    time_left = TimeLeft(clock)
    steps = steps_of("dare", rounds=4)
    time_left.plan(steps, 2)
    finish(time_left, clock, steps[2], 6)
    assert time_left.left == 6
    finish(time_left, clock, steps[3], 6)
    assert time_left.left == 0
