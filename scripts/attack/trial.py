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
"""The longest a trial may take: the default run takes less than half of that."""
GIGABYTES = 2.0
"""The most memory that a trial may add to what its parent holds."""
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


def judge(trial: Trial, seconds: float = SECONDS) -> Verdict:
    """Run a trial and say what is wrong with how it ended."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    heard = trial.folder.parent / f"{trial.folder.name}.out"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _inside(trial, heard)
    status, peak, hung = _wait(child, seconds)
    text = heard.read_text(encoding="utf-8", errors="replace")
    code = os.waitstatus_to_exitcode(status)
    complaints = [f"no end after {seconds:.0f} s"] if hung else _complaints(trial, code, text)
    grown = (peak - _resident()) / 1e9
    if grown > GIGABYTES:
        complaints.append(f"took {grown:.1f} GB")
    return Verdict(trial.label, code, tuple(complaints), text[-600:])


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
    left = [path for path in trial.folder.rglob(".*") if path.name.endswith((PARTIAL, REMOVED))]
    if left and code != 0:
        found.append(f"left {left[0].name}")
    return [*found, *filter(None, [trial.complain(code)])]


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


def _wait(child: int, seconds: float) -> tuple[int, int, bool]:
    """The child's status, its peak of resident memory in bytes, and whether it had to be killed."""
    end, hung = time.monotonic() + seconds, False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return status, usage.ru_maxrss * 1024, hung
        if time.monotonic() > end and not hung:
            os.kill(child, signal.SIGKILL)
            hung = True
        time.sleep(0.005)


def _resident() -> int:
    """Bytes that this process holds: what a child starts with."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
