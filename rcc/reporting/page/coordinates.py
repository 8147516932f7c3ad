"""Lay out trials as lines over parallel axes: what was searched, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcc.reporting.page.scales import Scale, bytes_tick, linear, logarithmic, number_tick, percent_tick

WIDTH, HEIGHT, TOP, BOTTOM, SIDE = 860, 290, 34, 24, 70
LEAST_STEP = 110
"""Between two axes; more of them make the plot wider."""
MOST_AXES, MOST_NAMES = 10, 12
ABSENT, ABSENT_AT = "not asked", HEIGHT - BOTTOM
"""Where a trial goes whose cascade has no place for an option."""


@dataclass(frozen=True)
class Axis:
    name: str
    x: float
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Line:
    points: str
    key: str
    series: str
    level: int
    title: str


@dataclass(frozen=True)
class Coordinates:
    """Axes and a line a trial, whose `level` from 0 to 10 says how much it keeps."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    width: int
    height: int = HEIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Through:
    """A trial: its values by axis, as text where they are names; `kept` decides its colour."""

    key: str
    values: Mapping[str, str | float]
    kept: float
    series: str
    title: str


def coordinates(names: Sequence[str], trials: Sequence[Through], numbers: Mapping[str, str]) -> Coordinates | None:
    """The plot; None for fewer than two trials or axes.

    Args:
        names: of the axes, in order.
        numbers: of an axis that is a number of a trial how its ticks are written: 'bytes', 'share' or 'number'.
    """
    names = [name for name in names if any(name in trial.values for trial in trials)][-MOST_AXES:]
    if len(trials) < 2 or len(names) < 2:
        return None
    axes, places = [], {}
    step = max(LEAST_STEP, (WIDTH - 2 * SIDE) // (len(names) - 1))
    for index, name in enumerate(names):
        x = SIDE + index * step
        values = [trial.values[name] for trial in trials if name in trial.values]
        absent = len(values) < len(trials)
        places[name], ticks = _axis(values, absent, numbers.get(name, "number"))
        axes.append(Axis(name, x, [*ticks, *([(ABSENT_AT, ABSENT)] if absent else [])]))
    kept = [trial.kept for trial in trials]
    low, across = min(kept), max(kept) - min(kept) or 1.0
    lines = tuple(
        Line(
            " ".join(
                f"{axis.x},{places[axis.name].get(trial.values.get(axis.name), HEIGHT - BOTTOM)}" for axis in axes
            ),
            trial.key,
            trial.series,
            round(10 * (trial.kept - low) / across),
            trial.title,
        )
        for trial in sorted(trials, key=lambda trial: trial.kept)
    )
    return Coordinates(tuple(axes), lines, 2 * SIDE + step * (len(names) - 1))


def _axis(
    values: Sequence[str | float], absent: bool, kind: str
) -> tuple[Mapping[str | float | None, float], list[tuple[float, str]]]:
    """The place of each value, and the ticks."""
    end = HEIGHT - BOTTOM - (30 if absent else 0)
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) == len(values):
        scale: Scale = (logarithmic if kind == "bytes" else linear)(numbers, end, TOP)
        text = {"bytes": bytes_tick, "share": percent_tick}.get(kind, number_tick)
        return {value: scale(value) for value in numbers}, scale.ticks(text)
    texts = sorted({str(value) for value in values})
    across = (end - TOP) / max(len(texts) - 1, 1)
    placed = {
        text: round(TOP + index * across if len(texts) > 1 else (TOP + end) / 2, 1) for index, text in enumerate(texts)
    }
    every = -(-len(texts) // MOST_NAMES)
    return (
        {value: placed[str(value)] for value in values},
        [(placed[text], text) for index, text in enumerate(texts) if index % every == 0],
    )
