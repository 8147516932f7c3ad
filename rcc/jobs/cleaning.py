"""Remove what runs and sweeps left: the checkpoints that only a resume needs, or whole directories.

Nothing is removed that rcc did not make: a directory goes only if its record can be read and every name in it is one
that rcc gives, and nothing goes while a process holds its lock.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rcc.atomic import PARTIAL, REMOVED, disk_errors, remove_directory
from rcc.errors import UserError, listed
from rcc.reporting.recorded.finding import Found, size_of
from rcc.reporting.recorded.run import LIVE, LOCK, RecordedRun
from rcc.reporting.recorded.sweep import RecordedSweep
from rcc.reporting.run_manifest import COMPLETED, FINISHED
from rcc.shared import FOLDER as SHARED
from rcc.sweeps.trials import CLAIMS

STATE, RUNS = "state", "runs"
REMOVES = (STATE, RUNS)
FOR_RESUME = ("state", "training")
"""Folders of a run's directory that nothing but its resume reads."""
OF_A_RUN = re.compile(
    r"\.hydra|\.lock|run\.json|state|training|metrics\.(jsonl|csv)|report\.(md|html)|items\.json|pictures\.json"
    r"|artifact|artifact\.rcc|checkpoint|recovery\.json|evaluation\.(json|csv)|wandb|\..*\.(partial|removed)"
)
OF_A_SWEEP = re.compile(
    r"sweep\.json|study\.journal|\.study\.journal\.lock|\.claims|workers|shared|\.lock|multirun\.yaml|report\.html|\..*\.(partial|removed)"
)
TRIAL = re.compile(r"\d+(\.stopped-\d+)?")


@dataclass(frozen=True)
class Removal:
    """A file or a directory that may go, and the lock files that must be free while it does."""

    path: Path
    what: str
    nbytes: int
    locks: tuple[Path, ...]


def removals(found: Sequence[Found], remove: str) -> tuple[list[Removal], list[tuple[Path, str]]]:
    """What may go, and what was asked for and stays, with the reason."""
    due: list[Removal] = []
    kept: list[tuple[Path, str]] = []
    for each in found:
        if each.record is None:
            kept.append((each.place, f"damaged, so that nothing says that rcc made it: {each.problem}"))
        elif each.status == LIVE:
            kept.append((each.place, "a process works in it"))
        elif remove == STATE:
            due += _of_resume(each.record)
        elif reason := _foreign(each):
            kept.append((each.place, reason))
        else:
            due.append(Removal(each.place, _kind(each), size_of(each.place), _locks(each.record)))
    return due, kept


def removed(removal: Removal) -> bool:
    """Remove it, with its locks held; False where a process took one meanwhile."""
    with ExitStack() as held:
        for path in removal.locks:
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            held.callback(lock.release)
        with disk_errors(removal.path):
            if removal.path.name.endswith((PARTIAL, REMOVED)):
                shutil.rmtree(removal.path) if removal.path.is_dir() else removal.path.unlink()
            else:
                remove_directory(removal.path)
    return True


def asked_first(question: str) -> None:
    """Ask on the terminal.

    Raises:
        UserError: the answer is no, or nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        raise UserError("action=clean asks before it removes, and there is no terminal to ask on: say yes=true.")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed.")


def _of_resume(record: RecordedRun | RecordedSweep) -> Iterator[Removal]:
    """What only a resume needs, of finished runs and trials, and what killed writes left in any."""
    runs = [record] if isinstance(record, RecordedRun) else [trial.run for trial in record.trials if trial.run]
    if isinstance(record, RecordedSweep) and record.status == FINISHED:
        path = record.folder / SHARED
        if path.is_dir() and not path.is_symlink():
            yield Removal(path, "what trials of a finished sweep shared", size_of(path), _locks(record))
    for run in runs:
        if run.status == LIVE:
            continue
        lock = (run.directory / LOCK,)
        for name in FOR_RESUME if run.status in COMPLETED else ():
            path = run.directory / name
            if path.is_dir() and not path.is_symlink():
                yield Removal(path, "checkpoints of a finished run", size_of(path), lock)
        for path in sorted(run.directory.glob(".*")):
            if path.name.endswith((PARTIAL, REMOVED)) and not path.is_symlink():
                size = size_of(path) if path.is_dir() else path.stat().st_size
                yield Removal(path, "left by a killed write", size, lock)


def _foreign(found: Found) -> str:
    """Why a directory is not rcc's alone; empty where it is."""
    place = found.place.resolve()
    if found.place.is_symlink():
        return "it is a link"
    if Path.cwd().resolve().is_relative_to(place) or Path.home().resolve().is_relative_to(place):
        return "it holds the current folder or your home"
    sweep = found.sweep is not None
    strange = [
        entry.name
        for entry in place.iterdir()
        if not (OF_A_SWEEP if sweep else OF_A_RUN).fullmatch(entry.name) and not (sweep and TRIAL.fullmatch(entry.name))
    ]
    if sweep:
        strange += [
            f"{trial.name}/{entry.name}"
            for trial in place.iterdir()
            if TRIAL.fullmatch(trial.name) and trial.is_dir()
            for entry in trial.iterdir()
            if not OF_A_RUN.fullmatch(entry.name)
        ]
    return f"it holds what no run makes: {listed(strange)}" if strange else ""


def _locks(record: RecordedRun | RecordedSweep) -> tuple[Path, ...]:
    if isinstance(record, RecordedRun):
        return (record.directory / LOCK,)
    claims = record.folder / CLAIMS
    places = [record.folder, *(trial.run.directory for trial in record.trials if trial.run is not None)]
    return (*(place / LOCK for place in places), *(claims.iterdir() if claims.is_dir() else ()))


def _kind(found: Found) -> str:
    if found.sweep is not None:
        return f"a sweep of {len(found.sweep.trials)} trials, {found.status}"
    return f"a run, {found.status}"
