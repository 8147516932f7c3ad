"""Define a confidence interval: two ends, and the share of such intervals that hold the true value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
"""Of the intervals that tables print."""


@dataclass(frozen=True)
class Interval:
    """The ends of an interval in the unit of its number, `low` ≤ `high`, and its level in (0, 1)."""

    low: float
    high: float
    level: float = LEVEL

    @property
    def standard_error(self) -> float:
        """Half the width over the normal quantile of the level: above zero also where every item was alike."""
        return (self.high - self.low) / (2 * normal_quantile(self.level))

    def hull(self, other: Interval) -> Interval:
        """The least interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high), self.level)

    def mapped(self, function: Callable[[float], float]) -> Interval:
        """The interval of `function` of the number; it may fall as well as rise."""
        ends = sorted((function(self.low), function(self.high)))
        return Interval(ends[0], ends[1], self.level)


def normal_quantile(level: float) -> float:
    """The z with `level` of a normal distribution between −z and z: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + level) / 2)


def normal_interval(value: float, standard_error: float, level: float = LEVEL) -> Interval:
    """`value` ± z standard errors."""
    across = normal_quantile(level) * standard_error
    return Interval(value - across, value + across, level)
