"""Part runs into those that one axis can hold, of one model and one data set, and tell what they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcc.command_line import key_of
from rcc.reporting.formats import MISSING, bytes_text
from rcc.reporting.page.figures import Cell, Grid, Point, Scatter, scatter
from rcc.reporting.page.wording import interval, kept_text, told_settings
from rcc.reporting.recorded.run import RecordedRun
from rcc.sweeps.front import hypervolume, on_front

SILENT = ("limits", "logger", "state", "dry_run", "resume")
"""Options that say nothing about the result."""
MACHINE = ("environment.memory_bytes",)
"""What differs from machine to machine, and from start to start of one."""


@dataclass(frozen=True)
class Entry:
    """A run as plots and tables of several call it.

    Attributes:
        kept: of the dense model on the selection split, which is what was optimised.
        nbytes: of the artifact.
        violated: why it is not what was asked for; empty where it is.
    """

    key: str
    run: RecordedRun
    kept: float
    nbytes: float
    violated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Entries of one model and data set: their plot, the keys of those on the front, and the hypervolume of these
    against the dense model's bytes in float32."""

    title: str
    entries: tuple[Entry, ...]
    front: tuple[str, ...]
    plot: Scatter | None
    hypervolume: float | None
    largest: float


def grouped(entries: Sequence[Entry]) -> list[Group]:
    """The entries of each model and data set, in the order in which these appear."""
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_subject(entry.run), []).append(entry)
    return [_group(found) for found in groups.values()]


def entry_of(key: str, run: RecordedRun, violated: Sequence[str] = ()) -> Entry | None:
    """The entry of a run; None where it has no artifact to place."""
    kept, nbytes = run.result.get("retention"), run.result.get("bytes")
    if kept is None or nbytes is None or nbytes <= 0:
        return None
    return Entry(key, run, kept, nbytes, tuple(violated))


def differing(runs: Mapping[str, RecordedRun]) -> Grid | None:
    """What the runs were asked, and ran on, that is not the same in all: an option a row; None where nothing is.

    By their published configurations where all have one, else by what was typed.
    """
    published = all(run.settings for run in runs.values())
    told = {key: _asked(run, published) for key, run in runs.items()}
    options = dict.fromkeys(option for asked in told.values() for option in asked)
    rows = []
    for option in options:
        texts = [asked.get(option, MISSING) for asked in told.values()]
        same = published and option.startswith("stage.") and len({*texts} - {MISSING}) < 2
        if len({*texts}) > 1 and not same:  # of a stage that a run lacks, only that is told
            rows.append((Cell(option), *map(Cell, texts)))
    return Grid(("option", *runs), tuple(rows), len(runs) + 1) if rows else None


def ends(run: RecordedRun) -> tuple[float, float] | None:
    """The interval of what it keeps on the selection split, of its last step."""
    done = run.numbers.done
    bounds = interval(done[-1].values, "retention") if done else None
    return None if bounds is None else (bounds.low, bounds.high)


def kept_of(entry: Entry) -> str:
    """What it keeps, with the interval where one is recorded."""
    done = entry.run.numbers.done
    return kept_text(entry.kept, interval(done[-1].values, "retention") if done else None)


def _group(entries: Sequence[Entry]) -> Group:
    feasible = [entry for entry in entries if not entry.violated]
    best = on_front([(entry.kept, entry.nbytes) for entry in feasible])
    front = tuple(entry.key for entry, found in zip(feasible, best, strict=True) if found)
    first = entries[0].run
    largest = first.numbers.artifact.get("dense_float32_bytes", 0.0)
    covered = hypervolume([(entry.kept, entry.nbytes) for entry in feasible], largest) if largest else None
    title = f"{first.choice('model', 'clip_tiny')}, {first.choice('data', 'digits')}"
    return Group(title, tuple(entries), front, scatter([_point(each, front) for each in entries]), covered, largest)


def _point(entry: Entry, front: Sequence[str]) -> Point:
    low, high = ends(entry.run) or (None, None)
    series = "infeasible" if entry.violated else "front" if entry.key in front else "trial"
    title = f"{entry.key}: {kept_of(entry)}, {bytes_text(round(entry.nbytes))}"
    title += f", not {' and '.join(entry.violated)}" if entry.violated else ""
    return Point(entry.key, entry.nbytes, entry.kept, low, high, series, title)


def _subject(run: RecordedRun) -> tuple[Any, ...]:
    """What two runs must share for one axis: the model, as far as names and the dense measurement tell, and the
    data."""
    dense = run.numbers.dense
    quality = next((round(value, 6) for name, value in dense.items() if name not in ("samples", "bytes")), None)
    names = tuple(run.choice(group, default) for group, default in (("model", "clip_tiny"), ("data", "digits")))
    return (*names, run.asked("model.path"), run.fingerprint, dense.get("bytes"), quality)


def _asked(run: RecordedRun, published: bool) -> dict[str, str]:
    told = {"stages": " → ".join(dict.fromkeys(run.plan))} | told_settings(run, SILENT)
    if not published:
        told = {name: text for name, text in told.items() if name.startswith("environment.")}
        told = {key_of(text): text.partition("=")[2] for text in run.overrides} | told
    return {name: text for name, text in told.items() if name not in MACHINE and not name.endswith("_target_")}
