"""Tell what state a trial is in from its folder, and claim it for one process."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rcc.errors import UserError, is_number
from rcc.limits import read_bytes
from rcc.locks import is_held

RUN, RUN_LOCK = "run.json", ".lock"
CLAIMS, LOCK = ".claims", ".lock"
NEW, FINISHED, FAILED, STOPPED, LIVE = "new", "finished", "failed", "stopped", "live"
ABANDONED = "abandoned"


@dataclass(frozen=True)
class Result:
    """What a finished trial came to: its numbers by name, why its target in bytes was missed, and that target."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    missed: str = ""
    target: float | None = None


@dataclass(frozen=True)
class State:
    """What a trial's folder says of it; `result` where it is finished and was a compression; how often it was begun;
    why it was abandoned."""

    status: str
    result: Result | None = None
    attempts: int = 0
    abandoned: str = ""


def state_of(folder: Path) -> State:
    """The state of the trial in `folder`: 'new', 'finished', 'failed', 'stopped' (half-done, resumable), 'live' or
    'abandoned' (stopped early by its search, for good)."""
    try:
        content = json.loads(read_bytes(folder / RUN))
        status = content["status"]
    except FileNotFoundError:
        return State(NEW)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, UserError):
        return State(STOPPED)  # its own resume says what is wrong with the file
    begun = content.get("attempts")
    attempts = len(begun) if isinstance(begun, list) else 0
    if status == FINISHED:
        return State(FINISHED, _result(content.get("result")), attempts)
    if status == ABANDONED:
        return State(ABANDONED, None, attempts, str(content.get("abandoned", "")))
    if status == FAILED:
        return State(FAILED, None, attempts)
    return State(LIVE if is_held(folder / RUN_LOCK) else STOPPED, None, attempts)


def _result(found: Any) -> Result | None:
    """That of run.json, where it is whole."""
    if not isinstance(found, dict) or not isinstance(found.get("numbers"), dict):
        return None
    numbers = {str(name): float(value) for name, value in found["numbers"].items() if is_number(value)}
    target = found.get("target_bytes")
    if not all(math.isfinite(value) for value in numbers.values()):
        return None
    return Result(numbers, str(found.get("missed") or ""), float(target) if is_number(target) else None)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the sweep's own lock while a trial is chosen or its result noted: a moment, after which others may.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        yield


def claim(folder: Path, number: int) -> FileLock | None:
    """The lock on one trial of a sweep for as long as this process works on it; None while another does."""
    place = folder / CLAIMS
    place.mkdir(exist_ok=True)
    lock = FileLock(place / str(number))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock
