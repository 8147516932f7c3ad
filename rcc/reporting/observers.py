"""Telling several observers what happens, so that one that fails is dropped and the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from rcc.cascade.records import Attempt, Baseline, Observer, Step, StepRecord, Summary, TargetOutcome
from rcc.reporting.apart import Apart
from rcc.reporting.delivery import Delivery

log = logging.getLogger(__name__)


class RunObserver(Observer):
    """An observer of a whole run, which also sees what is handed over and the end.

    Does nothing by itself: a subclass takes up the events it cares about, which `Observer` describes.
    """

    def delivered(self, delivery: Delivery) -> None:
        """The artifact is written, reloaded and measured on the test split."""

    def close(self, failed: bool = False) -> None:
        """The run is over, well or not; open files, displays and connections are let go."""


class Observers(RunObserver):
    """Passes every event on to each observer, in order.

    An observer that raises is named in one warning and disabled. KeyboardInterrupt passes.
    As a context manager it closes them all, also when the run fails.

    Args:
        loggers: observers that may wait for a server. Each is called in a thread of its own and only where it takes up
            an event, and is disabled as well when it does not come back.

    >>> with Observers([Console(), MetricsLog(directory)]) as observers:
    ...     RCCPipeline(..., observer=observers).run(...)
    """

    def __init__(self, observers: Iterable[RunObserver], loggers: Iterable[RunObserver] = ()) -> None:
        apart = list(loggers)
        self.observers = [*observers, *apart]
        self._apart = {id(logger): Apart(type(logger).__name__) for logger in apart if _takes_up(logger, EVENTS)}

    def run_started(self, steps: Sequence[Step], finished: int) -> None:
        self._tell("run_started", steps, finished)

    def baseline_measured(self, baseline: Baseline) -> None:
        self._tell("baseline_measured", baseline)

    def target_shared(self, shares: Mapping[str, float]) -> None:
        self._tell("target_shared", shares)

    def round_weighed(self, done: int, distance: float, best: int) -> None:
        self._tell("round_weighed", done, distance, best)

    def step_started(self, step: Step, attempt: int, strength: float | None) -> None:
        self._tell("step_started", step, attempt, strength)

    def progressed(self, done: int, total: int, what: str) -> None:
        self._tell("progressed", done, total, what)

    def attempt_finished(self, step: Step, attempt: Attempt) -> None:
        self._tell("attempt_finished", step, attempt)

    def step_finished(self, record: StepRecord) -> None:
        self._tell("step_finished", record)

    def step_refused(self, step: Step, attempt: Attempt) -> None:
        self._tell("step_refused", step, attempt)

    def round_repeated(self, steps: Sequence[Step], outcome: TargetOutcome) -> None:
        self._tell("round_repeated", steps, outcome)

    def run_finished(self, summary: Summary) -> None:
        self._tell("run_finished", summary)

    def delivered(self, delivery: Delivery) -> None:
        self._tell("delivered", delivery)

    def close(self, failed: bool = False) -> None:
        self._tell("close", failed)
        self.observers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def _tell(self, event: str, *details: object) -> None:
        for observer in list(self.observers):
            try:
                self._call(observer, event, *details)
            except Exception as error:
                self.observers.remove(observer)
                self._warn(observer, event, error)
                if event != "close" and not isinstance(error, TimeoutError):
                    self._close_quietly(observer)

    def _call(self, observer: RunObserver, event: str, *details: object) -> None:
        function, apart = getattr(observer, event), self._apart.get(id(observer))
        if apart is None:
            function(*details)
        elif _takes_up(observer, (event,)):
            apart.call(function, *details)

    @staticmethod
    def _warn(observer: RunObserver, event: str, error: Exception) -> None:
        log.warning(
            "%s failed (%s: %s: %s) and was disabled; the run continues.",
            type(observer).__name__,
            event,
            type(error).__name__,
            error,
        )

    def _close_quietly(self, observer: RunObserver) -> None:
        """Let a failed observer give back the terminal and its files; it has already been warned about."""
        try:
            self._call(observer, "close", True)
        except Exception as error:
            log.debug("%s could not be closed either: %s", type(observer).__name__, error)


EVENTS = tuple(name for name, value in vars(Observers).items() if callable(value) and not name.startswith("_"))


def _takes_up(observer: RunObserver, events: Iterable[str]) -> bool:
    """Whether an observer does anything at one of these events."""
    return any(getattr(type(observer), event) is not getattr(RunObserver, event) for event in events)
