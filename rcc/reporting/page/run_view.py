"""Gather what the page of a run shows, from what its files say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rcc.errors import UserError
from rcc.reporting.changed import Changes, read_changes
from rcc.reporting.formats import MISSING, bytes_text, count_text, metric_text, ratio_text, seconds_text, strength_text
from rcc.reporting.page.figures import Bar, Cell, Grid, Point, Scatter, Stack, bytes_cell, lengths, scatter, whole
from rcc.reporting.page.heat import HeatMap, heat_maps, layers_of, placed
from rcc.reporting.page.timeline import Timeline, Work, timeline
from rcc.reporting.page.wording import (
    DENSE,
    Command,
    answer,
    changed_text,
    commands,
    difference,
    facts,
    interval,
    kept_text,
    metrics,
    step_name,
    told_settings,
)
from rcc.reporting.recorded.numbers import StepNumbers, Values
from rcc.reporting.recorded.run import RecordedRun, Span, end_of

MOST_NAMED = 200
"""Items that are named of those lost, and of those won."""


@dataclass(frozen=True)
class RunView:
    """The page of a run, or its part of a page of several."""

    run: RecordedRun
    answer: str
    facts: list[tuple[str, str]]
    quality: Scatter | None
    steps: Grid
    test: Grid | None
    parts: tuple[str, list[Bar]] | None
    kinds: Stack | None
    by_step: Stack | None
    heats: list[HeatMap]
    changes: Changes | None
    times: Timeline | None
    attempts: Grid
    commands: list[Command]
    settings: list[tuple[str, str]]
    problems: list[str]


def run_view(run: RecordedRun) -> RunView:
    """Everything of one run."""
    problems, changes = list(run.problems), None
    try:
        changes = read_changes(run.directory, run.primary)
    except (OSError, UserError) as error:
        problems.append(str(error))
    done = run.numbers.done
    return RunView(
        run,
        answer(run),
        facts(run),
        scatter(_points(run), joined=[DENSE, *(f"step {step.index}" for step in done)]),
        _steps(run),
        _test(run),
        whole("artifact", run.parts) if run.parts else None,
        lengths(_kinds(run)) if run.matrices else None,
        lengths([(label, values["bytes"]) for label, values in _labelled(run) if "bytes" in values]) or None,
        heat_maps(layers_of(done)),
        changes,
        timeline([_work(run, span, f"attempt {number}") for number, span in enumerate(run.attempts, 1)]),
        _attempts(run),
        commands(run),
        list(told_settings(run).items()),
        problems,
    )


def _labelled(run: RecordedRun) -> Iterator[tuple[str, Values]]:
    """The dense model and each finished step, with the numbers of the model after it."""
    if run.numbers.dense:
        yield DENSE, run.numbers.dense
    for step in run.numbers.done:
        yield step_name(step), step.values


def _points(run: RecordedRun) -> list[Point]:
    """The dense model, every finished step, and attempts that did not pass."""
    points, dense = [], run.numbers.dense
    if "bytes" in dense:
        title = f"dense: 100%, {bytes_text(round(dense['bytes']))}"
        points.append(Point(DENSE, dense["bytes"], 1.0, series=DENSE, title=title))
    for step in run.numbers.done:
        points += _of_step(step)
    return points


def _of_step(step: StepNumbers) -> Iterator[Point]:
    last = max(step.attempts, default=0)
    for number, values in (*sorted(step.attempts.items()), (0, step.values)):
        finished = number == 0
        if "bytes" not in values or "retention" not in values or (number == last and step.kept):
            continue
        bounds = interval(values, "retention")
        what = step_name(step) + ("" if finished else f", attempt {number}, not kept")
        yield Point(
            f"step {step.index}" + ("" if finished else f".{number}"),
            values["bytes"],
            values["retention"],
            None if bounds is None else bounds.low,
            None if bounds is None else bounds.high,
            "step" if finished else "attempt",
            f"{what}: {kept_text(values['retention'], bounds)}, {bytes_text(round(values['bytes']))}",
        )


def _steps(run: RecordedRun) -> Grid:
    dense = run.numbers.dense
    rows = []
    for step in [run.numbers.steps[0]] if dense else []:
        rows.append(_row(DENSE, MISSING, step.values | {"retention": 1.0}, dense, None))
    for step in run.numbers.done:
        unchanged = step.values.get("unchanged") == 1.0
        outcome = "kept" if step.kept else "unchanged" if unchanged else "not kept"
        rows.append(_row(step_name(step), outcome, step.values, dense, step.strength))
    keys = ([DENSE] if dense else []) + [f"step {step.index}" for step in run.numbers.done]
    head = ("step", "outcome", "strength", "retention", "weights", "times smaller", "non-zeros", "time")
    return Grid(head, tuple(rows), 2, tuple(keys))


def _row(name: str, outcome: str, values: Values, dense: Values, strength: float | None) -> tuple[Cell, ...]:
    nbytes, before = values.get("bytes", 0.0), dense.get("bytes", 0.0)
    kept = values.get("retention")
    return (
        Cell(name),
        Cell(outcome),
        Cell(strength_text(strength), strength),
        Cell(kept_text(kept, interval(values, "retention")), kept),
        bytes_cell(nbytes),
        Cell(ratio_text(round(before), round(nbytes)), before / nbytes if nbytes else None),
        Cell(count_text(round(values.get("nonzeros", 0))), values.get("nonzeros")),
        Cell(seconds_text(values.get("seconds", 0.0)), values.get("seconds")),
    )


def _test(run: RecordedRun) -> Grid | None:
    """Both models on the test split; None before the artifact was measured."""
    before, after = metrics(run.numbers, f"{DENSE}."), metrics(run.numbers, "compressed.")
    rows = []
    for name, metric in after.items():
        if name not in before or name == "samples":
            continue
        apart = difference(run, name)
        rows.append(
            (
                Cell(name + (" (primary)" if name == run.primary else "")),
                *(Cell(metric_text(each, interval=True), each.value) for each in (before[name], metric)),
                Cell(MISSING) if apart is None else Cell(changed_text(metric, apart), apart.value),
            )
        )
    return Grid(("metric", DENSE, "compressed", "change"), tuple(rows)) if rows else None


def _kinds(run: RecordedRun) -> list[tuple[str, float]]:
    """The bytes of the matrices by the kind of their layer, largest first."""
    kinds: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, nbytes in run.matrices.items():
        kind = placed(name.rpartition(".")[0])[1].rpartition(".")[2] or name
        kinds[kind] = kinds.get(kind, 0.0) + nbytes
        counts[kind] = counts.get(kind, 0) + 1
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    rest = ordered[15:]
    rows = [(f"{kind} ({counts[kind]})", nbytes) for kind, nbytes in ordered[:15]]
    return [*rows, (f"{len(rest)} other kinds", sum(nbytes for _, nbytes in rest))] if rest else rows


def _attempts(run: RecordedRun) -> Grid:
    rows = []
    for number, span in enumerate(run.attempts, 1):
        took = None if span.end is None else (span.end - span.start).total_seconds()
        rows.append(
            (
                Cell(f"{number}", number),
                Cell(f"{span.start:%Y-%m-%d %H:%M:%S}"),
                Cell(MISSING if took is None else seconds_text(took), took),
                Cell(span.status),
            )
        )
    return Grid(("attempt", "started (UTC)", "took", "ended as"), tuple(rows), 1)


def _work(run: RecordedRun, span: Span, row: str) -> Work:
    return Work(row, span, end_of(run, span), f"{row}: {span.status}, from {span.start:%Y-%m-%d %H:%M:%S} UTC")
