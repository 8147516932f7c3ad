"""Run one hostile input in a process of its own, and judge how it ended.

A trial is forked from a process that has imported everything, so that it costs what its input costs. It is clean if
it ends in time and memory, with an exit code that its kind allows, words for the user where that is not 0, no
traceback, and nothing half-written left behind.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from rcc.atomic import PARTIAL, REMOVED

SECONDS = 60.0
"""The most processor time a trial may take: the default run takes less than half of that."""
PATIENCE = 10
"""Times as long may pass in all, since a trial shares the machine with others; one that waits for ever is seen then."""
GIGABYTES = 2.0
"""The most memory that a trial may add to what its parent holds; with twice as much it is ended."""
POLL = 0.01
"""Seconds between two looks at what runs."""
CRASHED = 70
"""The exit code of a trial that raised something other than an error of the project."""
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


@dataclass(frozen=True)
class Trial:
    """One input.

    Attributes:
        label: the input as a person would type or describe it.
        folder: the trial's working directory.
        call: does it, and returns an exit code.
        allowed: the exit codes that are right for it.
        complain: what is wrong with what it left in its folder, given its exit code; '' where nothing is.
    """

    label: str
    folder: Path
    call: Callable[[], int]
    allowed: Collection[int] = (0, 2)
    complain: Callable[[int], str] = field(default=lambda code: "")


@dataclass(frozen=True)
class Verdict:
    """How a trial ended: its exit code, what is wrong with that, and the end of what it said."""

    label: str
    code: int
    complaints: tuple[str, ...]
    said: str

    @property
    def clean(self) -> bool:
        return not self.complaints


class Running:
    """A trial in a process of its own, forked when this is made.

    Args:
        seconds: of processor time, after which it is killed.
    """

    def __init__(self, trial: Trial, seconds: float = SECONDS) -> None:
        self.trial, self.seconds = trial, seconds
        trial.folder.mkdir(parents=True, exist_ok=True)
        self._heard = trial.folder.parent / f"{trial.folder.name}.out"
        self._killed = ""
        sys.stdout.flush()
        sys.stderr.flush()
        self._end = time.monotonic() + PATIENCE * seconds
        measured, go = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(go)
            os.read(measured, 1)
            _inside(trial, self._heard)
        # What it holds before it does anything: less than its parent, whose pages of mapped files a fork leaves out.
        self._held = _resident(str(self._child))
        os.close(go)
        os.close(measured)

    def verdict(self) -> Verdict | None:
        """How it ended; None while it runs. Ends a trial that is over its time or its memory."""
        ended, status, usage = os.wait4(self._child, os.WNOHANG)
        if not ended:
            self._kill_if_over()
            return None
        text = self._heard.read_text(encoding="utf-8", errors="replace")
        self._heard.unlink()
        code = os.waitstatus_to_exitcode(status)
        complaints = [self._killed] if self._killed else _complaints(self.trial, code, text)
        grown = (usage.ru_maxrss * 1024 - self._held) / 1e9
        if grown > GIGABYTES:
            complaints.append(f"took {grown:.1f} GB")
        return Verdict(self.trial.label, code, tuple(complaints), text[-600:])

    def _kill_if_over(self) -> None:
        late = time.monotonic() > self._end or _processor_seconds(self._child) > self.seconds
        if not self._killed and (late or _resident(str(self._child)) - self._held > 2 * GIGABYTES * 1e9):
            self._killed = f"no end after {self.seconds:.0f} s" if late else "killed for its memory"
            os.kill(self._child, signal.SIGKILL)


def _complaints(trial: Trial, code: int, text: str) -> list[str]:
    found = []
    if code < 0:
        found.append(f"killed by {signal.Signals(-code).name}")
    elif code not in trial.allowed:
        found.append(f"exit code {code}, not {' or '.join(map(str, sorted(trial.allowed)))}")
    if "Traceback (most recent call last)" in text:
        found.append("a traceback")
    if code not in (0, CRASHED) and not text.strip():
        found.append("no word to the user")
    if _ADDRESS.search(text):
        found.append("the address of an object")
    if code != 0:
        found += [f"left {path.name}" for path in half_written(trial.folder)]
    return [*found, *filter(None, [trial.complain(code)])]


def half_written(folder: Path) -> list[Path]:
    """What a write that did not end left below a folder."""
    return [path for path in folder.rglob(".*") if path.name.endswith((PARTIAL, REMOVED))]


def _inside(trial: Trial, heard: Path) -> None:
    """The child: call, and end with its code. Never returns."""
    code = CRASHED
    try:
        output = os.open(heard, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        os.chdir(trial.folder)
        try:
            code = trial.call()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else CRASHED
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _processor_seconds(process: int) -> float:
    """Processor time that a process has taken; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(process: str) -> int:
    """Bytes that a process holds; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
