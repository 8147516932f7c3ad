"""Lay out when processes worked, with idle times cut short and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rcc.reporting.formats import seconds_text
from rcc.reporting.recorded.run import Span

WIDTH, LEFT, RIGHT, ROW = 720, 76, 12, 16
LONG = 0.1
"""Share of the working time from which an idle time is a gap; a shorter one is drawn as it was."""
GAP = 0.04
"""Share of the working time that a gap takes on the axis, as long as all gaps take no more than `GAPS`."""
GAPS = 0.3
MOST_ROWS = 24
"""Rows of their own; more share as few rows as their times allow."""


@dataclass(frozen=True)
class Work:
    """A bar of the timeline: the row that it is of, and what is said of it."""

    row: str
    span: Span
    end: datetime
    title: str


@dataclass(frozen=True)
class TimelineBar:
    x: float
    y: float
    width: float
    status: str
    key: str
    title: str


@dataclass(frozen=True)
class Gap:
    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """Bars by rows, the gaps between them, and a tick every so much of working time."""

    bars: tuple[TimelineBar, ...]
    rows: tuple[tuple[float, str], ...]
    gaps: tuple[Gap, ...]
    width: int
    height: int
    worked: str
    idle: str


def timeline(works: Sequence[Work]) -> Timeline | None:
    """The timeline of what was done; None where nothing has a time."""
    if not works:
        return None
    busy = _merged([(work.span.start, work.end) for work in works])
    worked = sum((end - start).total_seconds() for start, end in busy) or 1.0
    idle = [(end, start) for (_, end), (start, _) in pairwise(busy)]
    long = [(start, end) for start, end in idle if (end - start).total_seconds() > LONG * worked]
    first, last = busy[0][0], busy[-1][1]
    cut = sum((end - start).total_seconds() for start, end in long)
    gap = min(GAP, GAPS / max(len(long), 1)) * worked
    across = (last - first).total_seconds() - cut + gap * len(long) or 1.0

    def place(at: datetime) -> float:
        seconds = (at - first).total_seconds()
        for start, end in long:
            if at >= end:
                seconds += gap - (end - start).total_seconds()
        return LEFT + seconds / across * (WIDTH - LEFT - RIGHT)

    rows, named = _rows(works)
    bars = tuple(
        TimelineBar(
            round(place(work.span.start), 1),
            rows[index] * ROW + 2,
            round(max(place(work.end) - place(work.span.start), 1.5), 1),
            work.span.status,
            work.row,
            work.title,
        )
        for index, work in enumerate(works)
    )
    return Timeline(
        bars,
        tuple((index * ROW + ROW / 2 + 2, name) for index, name in enumerate(named)),
        tuple(
            Gap(
                round(place(start), 1),
                round(place(end) - place(start), 1),
                f"nothing ran for {seconds_text((end - start).total_seconds())}",
            )
            for start, end in long
        ),
        WIDTH,
        (max(rows) + 1) * ROW + 4,
        seconds_text(worked),
        seconds_text(sum((end - start).total_seconds() for start, end in idle)),
    )


def _rows(works: Sequence[Work]) -> tuple[list[int], list[str]]:
    """The row of each, and the names of the rows: those of the works, or none where these share rows."""
    names = list(dict.fromkeys(work.row for work in works))
    if len(names) <= MOST_ROWS:
        return [names.index(work.row) for work in works], names
    rows, ends = [0] * len(works), list[datetime]()
    for index in sorted(range(len(works)), key=lambda index: works[index].span.start):
        start, end = works[index].span.start, works[index].end
        free = next((row for row, until in enumerate(ends) if until <= start), len(ends))
        ends[free : free + 1] = [end]
        rows[index] = free
    return rows, []


def _merged(spans: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The times in which anything worked, in order."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found
