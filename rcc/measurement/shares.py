"""Compute intervals of a share, of the difference of two shares of the same items, and of a quantile.

Each is found by asking which true values a score test does not reject, so that none has width zero where all items came
out alike. `tests/measurement/test_shares.py` enumerates every outcome: docs/method/intervals.md has the coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.optimize import brentq

from rcc.measurement.interval import LEVEL, Interval, normal_quantile

_BESIDE = 1e-9


def share_interval(share: float, items: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share of `items`, which need not be whole: a share of clustered items counts as one of
    fewer independent ones.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    square = normal_quantile(level) ** 2
    middle = share + square / (2 * items)
    across = math.sqrt(square * (share * (1 - share) / items + square / (4 * items**2)))
    scale = 1 + square / items
    # At a share of 0 or 1 an end is exactly that; rounding would leave it beside.
    low = 0.0 if share <= 0 else max(0.0, (middle - across) / scale)
    high = 1.0 if share >= 1 else min(1.0, (middle + across) / scale)
    return Interval(low, high, level)


def paired_share_interval(gained: int, lost: int, items: int, level: float = LEVEL) -> Interval:
    """Tango's score interval of the difference of two shares of the same `items`, (gained − lost) / items.

    Args:
        gained, lost: items that count in the second share alone, and in the first alone.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998), equations 4 to 6.
    """
    z, found = normal_quantile(level), (gained - lost) / items

    def excess(difference: float) -> float:
        """(gained − lost − N d)² − z² Var, at the most likely chance of a loss under that difference d."""
        linear = (2 * items - gained + lost) * difference - gained - lost
        constant = -lost * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear**2 - 8 * items * constant))
        loss = (root - linear) / (4 * items)
        variance = items * (2 * loss + difference * (1 - difference))
        return float((gained - lost - items * difference) ** 2 - z * z * variance)

    # Where nothing changed, or everything did, `found` itself is a root; the one that is looked for lies beyond.
    low = -1.0 if excess(-1.0) <= 0 else brentq(excess, -1.0, found - _BESIDE)
    high = 1.0 if excess(1.0) <= 0 else brentq(excess, found + _BESIDE, 1.0)
    return Interval(low, high, level)


def quantile_interval(
    values: Sequence[float], share: float, level: float = LEVEL, items: float | None = None
) -> Interval | None:
    """The interval of a quantile without regard to how the values are distributed: the order statistics at the ends of
    the interval of `share`. None where too few values lie beyond it to bound it.

    Args:
        values: in any order.
        share: of the values that lie below the quantile, 0.5 for a median.
        items: how many independent values these are worth; all of them where None.

    Source: Woodruff, "Confidence intervals for medians and other position measures", JASA 47 (1952).
    """
    count, ordered = len(values), sorted(values)
    ends = share_interval(share, items or count, level)
    # The chance that all values lie on one side of the quantile, which then has no bound on the other.
    if max(share, 1 - share) ** (items or count) > 1 - level:
        return None
    # With B values below it, the quantile lies between the B-th and the next.
    first, last = math.floor(count * ends.low), math.ceil(count * ends.high) + 1
    return Interval(float(ordered[max(first, 1) - 1]), float(ordered[min(last, count) - 1]), level)
