"""Count the processes that died of a trial one after another, none having got further than the one before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rcc.errors import UserError, is_whole
from rcc.limits import read_bytes

RUN, KEPT = "run.json", "kept_ns"
MOST = 2
"""How many may die: a trial that takes its process along, as one that asks for too much memory, would end every worker
in turn."""
AGAIN = "retry=true tries it again."


def kept_last(directory: Path) -> int:
    """When a run last kept something that a resume goes on from, in nanoseconds; 0 where that is the dense model."""
    return max((path.stat().st_mtime_ns for path in _kept(directory)), default=0)


def _kept(directory: Path) -> Iterator[Path]:
    """Files of steps beyond the first, which is the dense model, and of trainings within a step or of a whole run."""
    steps = [path for path in directory.glob("state/step-*/*") if not path.parent.name.startswith("step-000")]
    yield from (*steps, *directory.glob("state/within-*"), *directory.glob("training/*"))


def deaths(directory: Path) -> int:
    """How many of the last attempts of a trial that nobody works on ended with their process, without having kept
    anything; those of folders that were set aside for a job without steps count too."""
    aside = sorted(directory.parent.glob(f"{directory.name}.stopped-*"))
    stamps: list[tuple[bool, int]] = []
    for place in (*aside, directory):
        for attempt in _attempts(place):
            noted = attempt.get(KEPT, 0)
            stamps.append((attempt.get("finished") is None, noted if is_whole(noted) else 0))
    found, after = 0, kept_last(directory)
    for died, before in reversed(stamps):
        if not died or after > before:
            break
        found, after = found + 1, before
    return found


def problem(directory: Path) -> str:
    """Why a trial is given up that ended its process too often; empty while it is not."""
    found = deaths(directory)
    if found < MOST:
        return ""
    return f"{found} processes one after another died of it without finishing a step: memory, or a crash. {AGAIN}"


def _attempts(directory: Path) -> list[dict[str, Any]]:
    try:
        attempts = json.loads(read_bytes(directory / RUN))["attempts"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, UserError):
        return []  # its own resume says what is wrong with the file
    return [each for each in attempts if isinstance(each, dict)] if isinstance(attempts, list) else []
