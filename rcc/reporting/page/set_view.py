"""Gather what a page of several runs shows: those of one model and data on one axis, others side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcc.reporting.formats import MISSING, bytes_text, seconds_text, share_text
from rcc.reporting.page.comparable import Entry, Group, differing, entry_of, grouped, kept_of
from rcc.reporting.page.figures import Cell, Grid, bytes_cell, share_cell
from rcc.reporting.page.run_view import RunView, run_view
from rcc.reporting.page.wording import Command, redraw
from rcc.reporting.recorded.run import RecordedRun
from rcc.reporting.recorded.sweep import RecordedSweep, no_sweep

MOST_DETAILED = 8
"""Runs whose own parts follow; of more there is the table, and each has a page of its own."""
MOST_COLUMNS = 24
"""Runs whose options are laid side by side."""


@dataclass(frozen=True)
class SetView:
    """The page of several runs."""

    answer: str
    groups: list[tuple[Group, Grid]]
    unplaced: Grid | None
    differences: Grid | None
    runs: list[tuple[str, RunView]]
    commands: list[Command]
    places: tuple[str, ...]


def set_view(places: Sequence[str], found: Sequence[RecordedRun | RecordedSweep]) -> SetView:
    """Everything of several runs; a sweep stands for its trials."""
    runs = dict(_named(found))
    entries = {key: entry for key, run in runs.items() if (entry := entry_of(key, run, _missed(run))) is not None}
    groups = grouped(list(entries.values()))
    rest = [(key, run) for key, run in runs.items() if key not in entries]
    return SetView(
        answer(len(runs), groups),
        [(group, _table(group)) for group in groups],
        _unplaced(rest) if rest else None,
        differing(runs) if 1 < len(runs) <= MOST_COLUMNS else None,
        [(key, run_view(run)) for key, run in runs.items()] if len(runs) <= MOST_DETAILED else [],
        [redraw(*places)],
        tuple(places),
    )


def answer(count: int, groups: Sequence[Group]) -> str:
    """What they came to, in a sentence or two."""
    if not groups:
        return f"{count} runs: none of them has finished with an artifact."
    told = [_of_group(group) for group in groups]
    if len(groups) == 1:
        return f"{count} runs of one model and data. {told[0]}"
    return f"{count} runs of {len(groups)} models or data sets, which no axis can hold together. {' '.join(told)}"


def _named(found: Sequence[RecordedRun | RecordedSweep]) -> list[tuple[str, RecordedRun]]:
    """Each run by a name that no other has: the last parts of its path that tell it from the others."""
    runs, depth = [], 1
    for each in found:
        if isinstance(each, RecordedSweep):
            runs += [trial.run for trial in each.trials if trial.run is not None]
            depth = 2  # a trial's own name is a number
        else:
            runs.append(each)
    if not runs:
        raise no_sweep(found[0].folder if isinstance(found[0], RecordedSweep) else found[0].directory)
    paths = [run.directory.resolve() for run in runs]
    while depth < 12 and len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    return [("/".join(path.parts[-depth:]), run) for path, run in zip(paths, runs, strict=True)]


def _missed(run: RecordedRun) -> tuple[str, ...]:
    return ("its target",) if run.missed else ()


def _of_group(group: Group) -> str:
    front = sorted((entry for entry in group.entries if entry.key in group.front), key=lambda entry: entry.nbytes)
    if not front:
        return f"Of {group.title} none is what was asked for."
    smallest, best = front[0], front[-1]
    text = f"On {group.title}, {_told(smallest)} is the smallest that nothing beats"
    return f"{text}, {_told(best)} keeps the most." if best is not smallest else f"{text}, and keeps the most."


def _told(entry: Entry) -> str:
    return f"{entry.key} with {bytes_text(round(entry.nbytes))} and {share_text(entry.kept)} kept"


def _table(group: Group) -> Grid:
    rows = []
    for entry in group.entries:
        artifact = entry.run.numbers.artifact
        dense = artifact.get("dense_float32_bytes")
        rows.append(
            (
                Cell(entry.key),
                Cell(" → ".join(dict.fromkeys(entry.run.plan))),
                Cell("target missed" if entry.violated else "on the front" if entry.key in group.front else ""),
                Cell(kept_of(entry), entry.kept),
                share_cell(artifact.get("retention")),
                bytes_cell(entry.nbytes),
                Cell(MISSING) if dense is None else Cell(f"{dense / entry.nbytes:.2f}×", dense / entry.nbytes),
                Cell(seconds_text(entry.run.seconds), entry.run.seconds),
            )
        )
    head = ("run", "stages", "", "retention, selection", "retention, test", "bytes", "times smaller", "took")
    return Grid(head, tuple(rows), 3, tuple(entry.key for entry in group.entries))


def _unplaced(runs: Sequence[tuple[str, RecordedRun]]) -> Grid:
    rows = [(Cell(key), Cell(run.name), Cell(run.status)) for key, run in runs]
    return Grid(("run", "asked", "status"), tuple(rows), 3)
