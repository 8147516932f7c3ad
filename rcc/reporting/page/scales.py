"""Map values to places of a plot, with ticks where people expect them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcc.reporting.formats import bytes_text

MOST_TICKS = 6


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, to a tenth of a unit; one beyond an end is drawn at it."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, text: Callable[[float], str], apart: float = 0.0) -> list[tuple[float, str]]:
        """Places and labels of round values, none nearer to the one before it than `apart`."""
        found: list[tuple[float, str]] = []
        for value in _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high):
            if not found or abs(self(value) - found[-1][0]) >= apart:
                found.append((self(value), text(value)))
        return found


def linear(values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Scale:
    """An axis that holds the values with some room beside them."""
    low, high = min(values), max(values)
    room = margin * (high - low) or abs(high) * 0.05 or 0.05
    return Scale(low - room, high + room, start, end)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """The same by the logarithm; values from 1 up."""
    low, high = max(1.0, min(values)), max(1.0, *values)
    room = (high / low) ** 0.06 if high > low else 1.5
    return Scale(low / room, high * room, start, end, log=True)


def bytes_tick(value: float) -> str:
    """'200 kB': bytes of a round value, without decimals that are zeros."""
    number, unit = bytes_text(round(value)).split(" ")
    return f"{float(number):g} {unit}"


def percent_tick(value: float) -> str:
    return f"{round(100 * value, 4):g}%"


def number_tick(value: float) -> str:
    return f"{value:.6g}"


def _ticks(low: float, high: float) -> list[float]:
    width = (high - low) / MOST_TICKS
    size: float = 10.0 ** math.floor(math.log10(width))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= width)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round factors of the powers of ten, fewer where there are many; between two of these, as on a linear axis."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,)):
        found = [factor * power for power in powers for factor in factors if low <= factor * power <= high]
        if len(found) <= MOST_TICKS:
            break
    return found[:: -(-len(found) // MOST_TICKS)] if len(found) > 2 else _ticks(low, high)
