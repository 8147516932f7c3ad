"""Run one command in several processes of this machine, tell which of them end, and end them all with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from types import TracebackType
from typing import IO, Self

LOGS = "workers"
"""The folder of a sweep in which each worker's output is kept."""
PATIENCE = 60.0
"""Seconds that a worker which was asked to end gets to note where it stands."""
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Worker:
    """A process that runs the command, and the file of its output."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def died(self) -> str:
        """What ended it where it did not end by itself: a signal's name; empty otherwise."""
        code = self.process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else ""


class Workers:
    """Processes of one command, as a context manager that leaves none behind.

    Each leads a session of its own, so that a terminal's Ctrl-C reaches this process alone, which passes it on once.

    Args:
        command: the words of the command line.
        count: how many processes.
        folder: the sweep's; the output of each goes to a new file in its folder `workers`.
    """

    def __init__(self, command: Sequence[str], count: int, folder: Path) -> None:
        self.command, self.count, self.folder = list(command), count, folder / LOGS
        self.running: list[Worker] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        surroundings = environment(self.count)
        try:
            for _ in range(self.count):
                with self._new_log() as log:
                    process = subprocess.Popen(
                        self.command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=surroundings,
                        start_new_session=True,
                    )
                self.running.append(Worker(process, Path(log.name)))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def ended(self) -> list[Worker]:
        """The workers that ended since this was asked last."""
        found = [worker for worker in self.running if worker.process.poll() is not None]
        self.running = [worker for worker in self.running if worker not in found]
        return found

    def _new_log(self) -> IO[bytes]:
        """The first file of a number that was not there: workers of other machines may write beside these."""
        for number in numbers(1):
            try:
                return (self.folder / f"{number}.log").open("xb")
            except FileExistsError:
                continue
        raise AssertionError

    def _end(self) -> None:
        for worker in self.running:
            worker.process.terminate()
        deadline = time.monotonic() + PATIENCE
        try:
            for worker in self.running:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # asked again: now
            pass
        for worker in self.running:
            worker.process.kill()
            worker.process.wait()
        self.running = []


def environment(count: int, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of one of `count` workers: its share of the threads that this process may use, one or more."""
    surroundings = dict(os.environ if given is None else given)
    asked = surroundings.get(THREADS, "")
    here = int(asked) if asked.isdecimal() and int(asked) > 0 else _processors()
    return surroundings | {THREADS: str(max(1, here // count))}


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
