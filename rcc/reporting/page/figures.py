"""Lay out the plots of a page: plain data with places, which templates draw as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rcc.reporting.formats import bytes_text, share_text
from rcc.reporting.page.scales import Scale, bytes_tick, linear, logarithmic, percent_tick

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 40
"""Room for ticks and labels around a plot."""


@dataclass(frozen=True)
class Cell:
    """What a table shows, and the number by which it is sorted, where it is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Grid:
    """A table of a page: the first `left` columns hold text, the others numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1
    keys: tuple[str, ...] = ()
    """Of each row, what the plots call it."""


@dataclass(frozen=True)
class Point:
    """A model: its bytes and what it keeps, with the ends of the interval where they are known.

    Attributes:
        key: what the page's plots and tables call it alike.
        series: 'dense', 'step', 'attempt', 'trial', 'front' or 'infeasible'.
    """

    key: str
    nbytes: float
    kept: float
    low: float | None = None
    high: float | None = None
    series: str = "step"
    title: str = ""


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    top: float | None
    bottom: float | None
    point: Point


@dataclass(frozen=True)
class Scatter:
    """Quality against bytes, with the front as a staircase; `path` joins the steps of a run."""

    dots: tuple[Dot, ...]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    front: str
    path: str
    series: tuple[str, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Bar:
    """A part of a whole: its name, its bytes, where it begins and how wide it is in percent."""

    name: str
    nbytes: float
    start: float
    width: float
    tone: int


@dataclass(frozen=True)
class Stack:
    """Bars that stand for bytes, one below another."""

    rows: list[tuple[str, list[Bar]]] = field(default_factory=list)


def scatter(points: Sequence[Point], joined: Iterable[str] = ()) -> Scatter | None:
    """Quality against bytes; None without a point.

    Args:
        joined: the keys of points to join by a line, in order.
    """
    if not points:
        return None
    ends = [each for point in points for each in (point.kept, point.low, point.high) if each is not None]
    x = logarithmic([point.nbytes for point in points], LEFT, WIDTH - RIGHT)
    y = linear(ends, HEIGHT - BOTTOM, TOP)
    dots = tuple(
        Dot(
            x(point.nbytes),
            y(point.kept),
            None if point.high is None else y(point.high),
            None if point.low is None else y(point.low),
            point,
        )
        for point in points
    )
    by_key = {dot.point.key: dot for dot in dots}
    line = [by_key[key] for key in joined if key in by_key]
    best = [point for point in points if point.series == "front"]
    return Scatter(
        dots,
        x.ticks(bytes_tick, apart=54),
        y.ticks(percent_tick),
        _staircase([(point.nbytes, point.kept) for point in best], x, y) if len(best) > 1 else "",
        " ".join(f"{dot.x},{dot.y}" for dot in line),
        tuple(dict.fromkeys(point.series for point in points)),
    )


def _staircase(best: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    """What is reached at so many bytes: from each point to the next larger one on its level."""
    corners = []
    ordered = sorted(best)
    for (nbytes, kept), (more, _) in pairwise(ordered):
        corners += [(x(nbytes), y(kept)), (x(more), y(kept))]
    corners.append((x(ordered[-1][0]), y(ordered[-1][1])))
    return " ".join(f"{left},{top}" for left, top in corners)


def whole(name: str, parts: Sequence[tuple[str, float]]) -> tuple[str, list[Bar]]:
    """A bar that is divided into parts, largest first, which fill it."""
    total = sum(nbytes for _, nbytes in parts) or 1.0
    bars, start = [], 0.0
    for tone, (part, nbytes) in enumerate(sorted(parts, key=lambda part: -part[1])):
        width = 100 * nbytes / total
        bars.append(Bar(part, nbytes, round(start, 2), round(width, 2), tone % 8))
        start += width
    return name, bars


def lengths(rows: Sequence[tuple[str, float]]) -> Stack:
    """A bar a row, as long as its share of the largest."""
    most = max((nbytes for _, nbytes in rows), default=0.0) or 1.0
    return Stack([(name, [Bar(name, nbytes, 0.0, round(100 * nbytes / most, 2), 0)]) for name, nbytes in rows])


def bytes_cell(nbytes: float) -> Cell:
    return Cell(bytes_text(round(nbytes)), nbytes)


def share_cell(share: float | None, decimals: int = 2) -> Cell:
    return Cell(share_text(share, decimals), share)
