"""Estimate how long a run will still take from the steps it has finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rcc.cascade.records import Step


class TimeLeft:
    """Estimates the seconds left: a step takes what its stage last took, or else what steps took on average.

    Only steps finished in this process count: an earlier attempt may have run on another machine.
    `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._ahead: list[Step] = []
        self._took: dict[str, float] = {}
        self._durations: list[float] = []
        self._current: Step | None = None
        self._current_started = self._started

    def plan(self, steps: Sequence[Step], finished: int) -> None:
        """The steps of the run, of which the first `finished` need not be done."""
        self._ahead = list(steps[finished:])

    def step_started(self, step: Step) -> None:
        """The clock of `step` runs from its first attempt on."""
        if self._current is None or self._current.index != step.index:
            self._current, self._current_started = step, self._clock()
        self._ahead = [other for other in self._ahead if other.index > step.index]

    def step_finished(self, step: Step) -> None:
        took = self._clock() - self._current_started
        self._took[step.label] = took
        self._durations.append(took)
        self._current = None

    @property
    def elapsed(self) -> float:
        """Seconds since the run started."""
        return self._clock() - self._started

    @property
    def left(self) -> float | None:
        """Seconds to the end of the last step, at least 0; None before the first step is finished."""
        if not self._durations:
            return None
        ahead = sum(self._expected(step) for step in self._ahead)
        if self._current is None:
            return ahead
        return ahead + max(0.0, self._expected(self._current) - (self._clock() - self._current_started))

    def _expected(self, step: Step) -> float:
        mean = sum(self._durations) / len(self._durations)
        return self._took.get(step.label, mean)
