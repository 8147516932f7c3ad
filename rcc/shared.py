"""Share among the trials of a sweep what is a pure function of model, data and options: one of them computes it.

It lies in a JSON file of the sweep's folder, named by a hash of all that decides it and read only where that is the
same to the word: code, versions, processor and threads too, so that a trial comes out the same to the byte with and
without.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from rcc.atomic import write_text
from rcc.errors import UserError, is_number
from rcc.limits import read_bytes

FOLDER = "shared"
FORMAT = 1


@dataclass
class Shelf:
    """What the trials of one sweep share.

    Attributes:
        folder: where the files lie.
        facts: what decides all of it alike.
        taken: what this trial did not compute itself, and how many seconds that took another.
    """

    folder: Path
    facts: Mapping[str, Any]
    taken: dict[str, float] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What was taken, as a sentence; empty where nothing was."""
        if not self.taken:
            return ""
        each = ", ".join(f"{what} ({seconds:.1f} s)" for what, seconds in self.taken.items())
        return f"Taken from earlier trials of this sweep: {each}."


_shelf: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


@contextmanager
def sharing(shelf: Shelf | None) -> Iterator[Shelf | None]:
    """Let what is computed in the block be shared; None for a run that is no trial."""
    token = _shelf.set(shelf)
    try:
        yield shelf
    finally:
        _shelf.reset(token)


def shared(what: str, decides: Callable[[], Mapping[str, Any] | None], compute: Callable[[], Any]) -> Any:
    """What `compute` returns, plain data with every bit of its numbers, or the same as another trial computed it.

    Of several processes that want it at once one computes it, and the others wait.

    Args:
        what: it is, in words for people.
        decides: all that it is a function of, as plain data; asked for only within a sweep. None: it is not shared.

    Raises:
        UserError, WorkError: the folder cannot be written to; and what `compute` raises.
    """
    shelf = _shelf.get()
    own = None if shelf is None else decides()
    if shelf is None or own is None:
        return compute()
    key = json.loads(_dumped({"what": what, **shelf.facts, **own}))
    path = shelf.folder / f"{_hash(key)}.json"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        found = _read(path, key)
        if found is not None:
            shelf.taken[what] = found["seconds"]
            return found["value"]
        started = time.perf_counter()
        value = json.loads(_dumped(compute()))
        seconds = time.perf_counter() - started
        content = {"format": FORMAT, "key": key, "seconds": seconds, "sha256": _hash(value), "value": value}
        write_text(path, _dumped(content) + "\n")
        return value


def _read(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content of a file; None where there is none, or one that is damaged or of something else."""
    try:
        content = json.loads(read_bytes(path))
        whole = content["format"] == FORMAT and content["key"] == key and content["sha256"] == _hash(content["value"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError, UserError):
        return None
    return content if whole and is_number(content.get("seconds")) else None


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # in its own order, in which reports and files repeat it


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
