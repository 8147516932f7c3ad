"""Show a run on the terminal: a live display of where it is, a line for what is done, tables at the end.

When the output is not a terminal the lines and tables are plain text and the live display is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from rcc.cascade.records import (
    DEFERRED,
    LEFT_OUT,
    RECOVERED,
    Attempt,
    Baseline,
    Step,
    StepRecord,
    Summary,
    TargetOutcome,
)
from rcc.reporting.delivery import Delivery
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.formats import (
    at_strength,
    bytes_text,
    clock_text,
    metric_text,
    ratio_text,
    seconds_text,
    share_text,
    strength_text,
)
from rcc.reporting.observers import RunObserver
from rcc.reporting.prepared import prepared_text
from rcc.reporting.tables import INTERVALS, notes_of, quality_table, size_table, step_table
from rcc.reporting.target import repeated_text, shares_text, target_text, weighed_text
from rcc.reporting.time_left import TimeLeft

STYLES = {
    "kept": "green",
    RECOVERED: "green",
    "continued": "yellow",
    DEFERRED: "yellow",
    "unchanged": "yellow",
    LEFT_OUT: "dim",
    "skipped": "red",
}

SILENCE = 30.0
"""Seconds of work after which output that is no terminal gets a line on how far it is."""


class Console(RunObserver):
    """Shows a run on `terminal` (stdout by default), which decides by itself whether it can be drawn on."""

    def __init__(
        self,
        terminal: Terminal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.terminal = terminal or Terminal(highlight=False)
        self.time_left = TimeLeft(clock)
        self._clock, self._last_word = clock, clock()
        self._steps = 0
        self._baseline: Baseline | None = None
        self._display: Progress | None = None
        self._run_row = self._step_row = TaskID(0)

    def run_started(self, steps: Sequence[Step], finished: int) -> None:
        self._steps = len(steps)
        self.time_left.plan(steps, finished)
        if finished:
            names = ", ".join(step.name for step in steps[finished:]) or "nothing"
            self._say(f"Resumed: {finished} of {self._steps} steps were done before. Still to do: {names}.")
        if self.terminal.is_terminal:
            self._open_display(finished)

    def baseline_measured(self, baseline: Baseline) -> None:
        self._baseline = baseline
        main, size = baseline.measurement.main, bytes_text(baseline.size.nbytes)
        self._say(f"dense model: {main.name} {metric_text(main, interval=True)}, {size}")
        if baseline.note:
            self._say(baseline.note, "yellow")
        if said := prepared_text(baseline.prepared):
            self._say(said)

    def step_started(self, step: Step, attempt: int, strength: float | None) -> None:
        self.time_left.step_started(step)
        if attempt > 1:
            # What has no strength is rounded finer: to more bits a value, or to more bytes than the target.
            softer = "trying finer steps" if strength is None else f"backing off to strength {strength_text(strength)}"
            self._say(f"{self._place(step)}: {softer}", "yellow")
        if self._display is not None:
            where = f"{step.label}{at_strength(strength)}, round {step.round}/{step.rounds}, attempt {attempt}"
            self._display.update(self._run_row, description=f"step {step.index} of {self._steps}")
            self._display.reset(self._step_row, description=where, detail=lambda: "", visible=True)

    def progressed(self, done: int, total: int, what: str) -> None:
        if self._display is not None:
            self._display.update(self._step_row, completed=done, total=total, detail=lambda: f"{done}/{total} {what}")
        elif self._clock() - self._last_word >= SILENCE:
            self._say(f"  {done}/{total} {what}")

    def attempt_finished(self, step: Step, attempt: Attempt) -> None:
        if attempt.problem:
            tried = f"attempt {attempt.number}{at_strength(attempt.strength)}"
            took = seconds_text(attempt.seconds)
            self._say(f"{self._place(step)}, {tried} failed: {attempt.problem} ({took})", "yellow")

    def step_finished(self, record: StepRecord) -> None:
        self.time_left.step_finished(record.step)
        self._say(f"{self._place(record.step)} {self._outcome(record)}", STYLES.get(record.outcome, ""))
        if self._display is not None:
            self._display.update(self._run_row, completed=record.step.index)
            self._display.update(self._step_row, visible=False)

    def step_refused(self, step: Step, attempt: Attempt) -> None:
        self._say(f"{self._place(step)} is undone: {attempt.problem}", "yellow")

    def target_shared(self, shares: Mapping[str, float]) -> None:
        self._say(shares_text(shares))

    def round_weighed(self, done: int, distance: float, best: int) -> None:
        self._say(weighed_text(done, distance, best))

    def round_repeated(self, steps: Sequence[Step], outcome: TargetOutcome) -> None:
        self.time_left.plan(steps, 0)
        self._say(repeated_text(outcome, steps[0].name), "yellow")
        if self._display is not None:
            self._display.update(self._run_row, completed=steps[0].index - 1)

    def run_finished(self, summary: Summary) -> None:
        self._close_display()
        self._say("")
        draw(self.terminal, step_table(summary.baseline, summary.records))
        for suggestion in summary.suggestions:
            self._say(f"Suggestion: {suggestion}")

    def delivered(self, delivery: Delivery) -> None:
        tested = delivery.compressed
        self._say("")
        self._say(f"On the {tested.split or 'test'} split ({tested.samples} samples):")
        draw(self.terminal, quality_table(delivery))
        self._say(INTERVALS)
        for note in notes_of([delivery.dense, tested]):
            self._say(note)
        self._say("On disk:")
        draw(self.terminal, size_table(delivery))
        if delivery.target is not None:
            self._say(target_text(delivery.target, delivery.nbytes), "yellow" if delivery.target.reason else "")
        self._say(f"Artifact: {delivery.artifact}")
        self._say(f"Measure it again: {delivery.again}")

    def close(self, failed: bool = False) -> None:
        self._close_display()

    def _place(self, step: Step) -> str:
        return f"[{step.index}/{self._steps}] {step.name}"

    def _outcome(self, record: StepRecord) -> str:
        last = record.attempts[-1] if record.attempts else None
        if record.outcome == "skipped":
            return f"skipped and rolled back: {last.problem if last else 'it made no attempt'}"
        if record.outcome == LEFT_OUT:
            return f"left out: {record.reason}"
        if record.outcome == DEFERRED:
            return f"is judged after the next step: {record.reason} ({seconds_text(record.seconds)})"
        if record.outcome == "unchanged":
            took = seconds_text(record.seconds)
            return f"unchanged{at_strength(last.strength if last else None)}: {record.reason} ({took})"
        size = bytes_text(record.size.nbytes)
        if self._baseline is not None:
            size += f" ({ratio_text(self._baseline.size.nbytes, record.size.nbytes)} smaller)"
        main = record.measurement.main
        return (
            f"{record.outcome}{at_strength(last.strength if last else None)}: {main.name} {metric_text(main)}, "
            f"retention {share_text(record.retention)}, {size}, {seconds_text(record.seconds)}"
        )

    def _open_display(self, finished: int) -> None:
        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=16),
            _Detail(table_column=Column(no_wrap=True)),
        )
        self._display = Progress(*columns, console=self.terminal, transient=True, expand=True, refresh_per_second=4)
        self._run_row = self._display.add_task(
            "dense model", total=self._steps, completed=finished, detail=self._clocks
        )
        self._step_row = self._display.add_task("", total=None, visible=False, detail=lambda: "")
        self._display.start()

    def _close_display(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _clocks(self) -> str:
        return f"{clock_text(self.time_left.elapsed)} gone, {clock_text(self.time_left.left)} left"

    def _say(self, line: str, style: str = "") -> None:
        self._last_word = self._clock()
        say(self.terminal, line, style)


class _Detail(ProgressColumn):
    """The right end of a row, asked anew at every refresh so that clocks run while nothing else happens."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["detail"]())
