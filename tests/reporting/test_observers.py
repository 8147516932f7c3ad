"""One failing observer never fails a run, nor the other observers."""

from __future__ import annotations

import logging
import threading

import pytest

from rcc.reporting import apart
from rcc.reporting.observers import Observers, RunObserver


class Recorder(RunObserver):
    """Notes the name of every event it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> object:
        if name in EVENTS:
            self.events.append(name)
        return super().__getattribute__(name)


class Failing(Recorder):
    def __init__(self, event: str, error: BaseException) -> None:
        super().__init__()
        self.event, self.error = event, error

    def step_finished(self, record):
        self._fail("step_finished")

    def close(self, failed=False):
        self._fail("close")

    def _fail(self, event):
        if event == self.event:
            raise self.error


EVENTS = (
    "run_started",
    "baseline_measured",
    "step_started",
    "progressed",
    "attempt_finished",
    "step_finished",
    "run_finished",
    "delivered",
    "close",
)


def play(observers: Observers, steps, baseline, records, summary, delivery) -> None:
    observers.run_started(steps, 0)
    observers.baseline_measured(baseline)
    for record in records:
        observers.step_started(record.step, 1, record.step.strength)
        observers.progressed(1, 2, "layers")
        observers.attempt_finished(record.step, record.attempts[0])
        observers.step_finished(record)
    observers.run_finished(summary)
    observers.delivered(delivery)
    observers.close()


@pytest.fixture
def run(steps, baseline, records, summary, delivery):
    return steps, baseline, records, summary, delivery


def test_every_event_reaches_every_observer_in_order(run):
    first, second = Recorder(), Recorder()
    play(Observers([first, second]), *run)
    middle = ["step_started", "progressed", "attempt_finished", "step_finished"]
    expected = ["run_started", "baseline_measured", *middle * 3, "run_finished", "delivered", "close"]
    assert first.events == second.events == expected


def test_an_observer_that_raises_is_named_once_closed_and_told_nothing_more(run, caplog):
    failing, healthy = Failing("step_finished", OSError("no space left")), Recorder()
    with caplog.at_level(logging.WARNING):
        play(Observers([failing, healthy]), *run)
    assert [record.getMessage() for record in caplog.records] == [
        "Failing failed (step_finished: OSError: no space left) and was disabled; the run continues."
    ]
    assert failing.events.count("step_finished") == 1
    assert failing.events[-1] == "close"
    assert healthy.events.count("step_finished") == 3
    assert healthy.events[-1] == "close"


def test_an_observer_that_cannot_even_close_is_warned_about_once(run, caplog):
    with caplog.at_level(logging.WARNING):
        play(Observers([Failing("close", RuntimeError("stuck"))]), *run)
    assert len(caplog.records) == 1


def test_a_logger_that_does_not_come_back_is_left_behind_and_the_others_go_on(run, caplog, monkeypatch):
    monkeypatch.setattr(apart, "SECONDS", 0.05)
    stuck = threading.Event()

    class Hanging(RunObserver):
        def baseline_measured(self, baseline):
            stuck.wait()

    healthy = Recorder()
    with caplog.at_level(logging.WARNING):
        play(Observers([], loggers=[Hanging(), healthy]), *run)
    stuck.set()
    assert [record.getMessage() for record in caplog.records] == [
        "Hanging failed (baseline_measured: TimeoutError: it did not come back within 0.05 s) and was disabled; the run"
        " continues."
    ]
    assert healthy.events[-1] == "close"


def test_a_logger_that_ends_the_program_only_fails(run, caplog):
    class Leaving(RunObserver):
        def step_finished(self, record):
            raise SystemExit(3)

    with caplog.at_level(logging.WARNING):
        play(Observers([], loggers=[Leaving()]), *run)
    assert "RuntimeError: it called sys.exit(3)" in caplog.text


def test_a_logger_is_called_in_one_thread_and_only_for_what_it_takes_up(run):
    threads = []

    class Noting(RunObserver):
        def step_finished(self, record):
            threads.append(threading.current_thread().name)

    before = threading.active_count()
    observers = Observers([], loggers=[Noting(), RunObserver()])
    assert threading.active_count() == before + 1
    play(observers, *run)
    assert threads == ["Noting"] * 3


def test_an_interrupt_by_the_user_is_not_swallowed(records):
    observers = Observers([Failing("step_finished", KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        observers.step_finished(records[0])


def test_the_context_closes_observers_and_tells_them_whether_the_run_failed():
    closed: list[bool] = []

    class Closing(RunObserver):
        def close(self, failed: bool = False) -> None:
            closed.append(failed)

    with Observers([Closing()]):
        pass
    with pytest.raises(ZeroDivisionError), Observers([Closing()]):
        1 / 0  # noqa: B018
    assert closed == [False, True]


def test_closing_twice_closes_once(run):
    recorder = Recorder()
    observers = Observers([recorder])
    observers.close()
    observers.close()
    assert recorder.events == ["close"]
