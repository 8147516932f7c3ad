"""Show a training: a bar on a terminal, a line an epoch on anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rcc.reporting.drawing import Terminal, say
from rcc.reporting.formats import clock_text


class TrainingDisplay:
    """Shows epochs as they are finished, while the block runs that it is the context of.

    Args:
        terminal: decides by itself whether it can be drawn on; stdout by default.
        clock: gives seconds and never goes back.
    """

    def __init__(self, terminal: Terminal | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.terminal, self._clock = terminal or Terminal(highlight=False), clock
        self._bar: Progress | None = None
        self._started = clock()
        self._before: int | None = None  # epochs that were finished before

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self.terminal.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self.terminal)
            self._bar.start()
            self._row = self._bar.add_task("training", total=None, what="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def finished(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` epochs are finished; the first that is shown may be one of a resumed training."""
        if self._bar is not None:
            self._bar.update(self._row, completed=done, total=total, what=what)
            return
        if self._before is None:
            self._before = done - 1
        took = (self._clock() - self._started) / (done - self._before)
        left = f", {clock_text(took * (total - done))} left" if done < total else ""
        say(self.terminal, f"epoch {done} of {total}: {what}{left}")

    def within(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` steps of the present epoch are done."""
        if self._bar is not None:
            self._bar.update(self._row, what=f"{done} of {total} {what}")
        else:
            say(self.terminal, f"{done} of {total} {what}")
