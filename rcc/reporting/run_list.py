"""Build the tables and lines by which runs and sweeps are listed and shown on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rcc.reporting.formats import MISSING, bytes_text, share_text
from rcc.reporting.page.figures import Grid
from rcc.reporting.page.run_view import run_view
from rcc.reporting.page.sweep_view import sweep_view
from rcc.reporting.recorded.finding import Found, size_of
from rcc.reporting.run_manifest import COMPLETED
from rcc.reporting.tables import Table

ORDERS = ("when", "path", "bytes", "retention", "size")
LONGEST = 60
"""Characters of what was typed in a list."""
NEVER = datetime.max.replace(tzinfo=UTC)


def ordered(found: Sequence[Found], by: str, reverse: bool = False) -> list[Found]:
    """Runs and sweeps, least first; those without the number come last, whichever way."""
    keys = {
        "when": lambda each: each.started,
        "path": lambda each: str(each.place),
        "bytes": lambda each: each.nbytes,
        "retention": lambda each: each.retention,
        "size": lambda each: size_of(each.place),
    }
    known = [each for each in found if keys[by](each) is not None]
    return sorted(known, key=keys[by], reverse=reverse) + [each for each in found if keys[by](each) is None]


def list_table(found: Sequence[Found]) -> Table:
    """A line for each."""
    rows = []
    for each in found:
        told = " ".join((each.problem if each.record is None else each.asked or "(the defaults)").split())
        rows.append(
            (
                str(each.place),
                _status(each),
                told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…",
                f"{each.started:%Y-%m-%d %H:%M}" if each.started else MISSING,
                share_text(each.retention),
                MISSING if each.nbytes is None else f"{each.nbytes:,.0f}",
                bytes_text(size_of(each.place)),
            )
        )
    return Table(("directory", "status", "asked", "started (UTC)", "retention", "bytes", "on disk"), tuple(rows), 4)


def show_lines(found: Found) -> Iterator[str | Table]:
    """What one of them is and came to, its table, and its commands."""
    if found.record is None:
        yield f"{found.place}: damaged. {found.problem}"
        return
    view = run_view(found.run) if found.run is not None else None
    sweep = sweep_view(found.sweep) if found.sweep is not None else None
    shown = view or sweep
    assert shown is not None
    yield f"{found.place}: {shown.answer}"
    yield from shown.problems
    yield Table(("fact", "value"), tuple(shown.facts), 2)
    yield as_table(view.steps if view is not None else sweep.trials)  # type: ignore[union-attr]
    if view is not None and view.test is not None:
        yield as_table(view.test)
    for command in shown.commands:
        yield f"to {command.does}: {command.line}" + (f" ({command.note})" if command.note else "")
    yield ""


def as_table(grid: Grid) -> Table:
    """A page's table as the terminal's."""
    return Table(grid.head, tuple(tuple(cell.text for cell in row) for row in grid.rows), grid.left)


def _status(found: Found) -> str:
    """The status; of a sweep with how many of its trials are done."""
    if found.sweep is None:
        return found.status
    done = sum(trial.status in COMPLETED for trial in found.sweep.trials)
    return f"{found.status}, {done} of {found.sweep.record.n_trials or len(found.sweep.trials)} trials"
