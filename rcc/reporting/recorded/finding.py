"""Find the runs and sweeps below a folder, damaged ones among them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rcc.errors import RccError
from rcc.reporting.recorded.run import RecordedRun, read_run
from rcc.reporting.recorded.sweep import DAMAGED, RecordedSweep, read_sweep
from rcc.reporting.run_manifest import FILE as RUN
from rcc.sweeps.record import is_sweep

DEEPEST = 4
"""Folders below the one that was named: multirun/<date>/<time> is the deepest that rcc makes."""


@dataclass(frozen=True)
class Found:
    """A run, a sweep, or a directory that holds a record of one which cannot be read; `problem` says why."""

    place: Path
    record: RecordedRun | RecordedSweep | None
    problem: str = ""

    @property
    def status(self) -> str:
        return DAMAGED if self.record is None else self.record.status

    @property
    def sweep(self) -> RecordedSweep | None:
        return self.record if isinstance(self.record, RecordedSweep) else None

    @property
    def run(self) -> RecordedRun | None:
        return self.record if isinstance(self.record, RecordedRun) else None

    @property
    def started(self) -> datetime | None:
        """When the first attempt began, of a sweep that of its first trial."""
        if self.sweep is not None:
            begun = [trial.run.started for trial in self.sweep.trials if trial.run is not None and trial.run.started]
            return min(begun, default=None)
        return None if self.run is None else self.run.started

    @property
    def asked(self) -> str:
        """What was typed."""
        if self.sweep is not None:
            return " ".join((*self.sweep.record.space, *self.sweep.record.fixed))
        return "" if self.run is None else " ".join(self.run.overrides)

    @property
    def retention(self) -> float | None:
        """What the run keeps, or the smallest on the sweep's front."""
        return None if self.run is None else self.run.result.get("retention")

    @property
    def nbytes(self) -> float | None:
        """Bytes of the artifact."""
        return None if self.run is None else self.run.result.get("bytes")


def found_in(places: Sequence[Path], layers: bool = False) -> list[Found]:
    """The runs and sweeps at and below the places, each once, in the order of their paths. Trials belong to their
    sweep and are not among them, unless one is named itself."""
    paths = dict.fromkeys(path for place in places for path in _records(place))
    return [_read(path, layers) for path in paths]


def size_of(place: Path) -> int:
    """Bytes of all that lies in a directory; a link counts as itself."""
    total = 0
    for folder, _, files in os.walk(place):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # removed in this moment
                continue
    return total


def _records(place: Path, depth: int = 0) -> Iterator[Path]:
    if is_sweep(place) or os.path.lexists(place / RUN):
        yield place
        return
    if depth == DEEPEST:
        return
    try:
        below = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError:  # a folder that may not be read
        return
    for entry in below:
        if not entry.name.startswith("."):
            yield from _records(entry, depth + 1)


def _read(path: Path, layers: bool) -> Found:
    try:
        return Found(path, read_sweep(path) if is_sweep(path) else read_run(path, layers))
    except (OSError, RccError) as error:
        return Found(path, None, str(error))
