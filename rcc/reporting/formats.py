"""Format numbers for people: sizes, counts, shares, times and metrics, each with its unit."""

from __future__ import annotations

import math

from rcc.measurement import Difference, Interval, Metric

MISSING = "-"
COUNTED = ("parameters", "FLOPs")
"""Units of counts, whose name says what is counted."""


def bytes_text(nbytes: int) -> str:
    """Bytes in decimal units with three significant digits: '512 B', '12.3 kB', '2.51 MB'."""
    return _scaled(nbytes, ("B", "kB", "MB", "GB", "TB"))


def count_text(count: int) -> str:
    """A count with three significant digits: '784', '12.3 k', '1.21 M'."""
    return _scaled(count, ("", "k", "M", "G", "T")).rstrip()


def share_text(share: float | None, decimals: int = 2) -> str:
    """A fraction as a percentage, '98.33%'; '-' when there is none."""
    if share is None:
        return MISSING
    return f"{100 * share:.{decimals}f}%" if math.isfinite(share) else "not a number"


def strength_text(strength: float | None) -> str:
    """A stage's strength with at most three decimals, '0.9'; '-' for a stage without one."""
    return MISSING if strength is None else f"{strength:.3f}".rstrip("0").rstrip(".")


def at_strength(strength: float | None) -> str:
    """' at strength 0.9', to go on with after a stage's name; nothing for a stage without one."""
    return "" if strength is None else f" at strength {strength_text(strength)}"


def ratio_text(dense: int, compressed: int) -> str:
    """The ratio of the sizes, '4.12×'; '-' when the compressed size is unknown."""
    return f"{dense / compressed:.2f}×" if compressed else MISSING


def seconds_text(seconds: float) -> str:
    """A duration: '0.42 s', '12.3 s', '3m 05s', '1h 02m'."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def clock_text(seconds: float | None) -> str:
    """A running clock: '0:42', '1:02:05'; '-:--' when unknown."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def seconds_short(seconds: float) -> str:
    """'0.42 ms' below a tenth of a second."""
    return f"{1000 * seconds:.2f} ms" if abs(seconds) < 0.1 else seconds_text(seconds)


def quantity_text(value: float, unit: str) -> str:
    """A value in its unit as people read it: a share as a percentage, bytes, counts and seconds scaled."""
    if not math.isfinite(value):
        return "not a number"
    if unit == "fraction":
        return share_text(value)
    if unit == "bytes":
        return bytes_text(round(value))
    if unit == "s":
        return seconds_short(value)
    if unit in COUNTED:
        return count_text(round(value))
    return f"{value:.2f}×" if unit == "×" else f"{_digits(value, 4)} {unit}".rstrip()


def metric_text(metric: Metric, interval: bool = False) -> str:
    """A metric with its unit; with `interval`, that in brackets where there is one."""
    value = quantity_text(metric.value, metric.unit)
    if not interval or metric.bounds is None:
        return value
    return f"{value} ({interval_text(metric.bounds, metric)})"


def difference_text(metric: Metric, difference: Difference) -> str:
    """A change of a metric with its sign, of a fraction in percentage points."""
    if metric.unit == "fraction":
        return f"{100 * difference.value:+.2f} points"
    sign = "-" if difference.value < 0 else "+"
    return f"{sign}{quantity_text(abs(difference.value), metric.unit)}"


def interval_text(interval: Interval, metric: Metric, signed: bool = False) -> str:
    """'97.2 … 99.6', in the unit in which the metric's value is shown, or its change where `signed`: percent, points,
    milliseconds."""
    scale = _scale(metric)
    ends = [scale * end for end in (interval.low, interval.high)]
    if not all(map(math.isfinite, ends)):
        return "not a number"
    # As many decimals as show two digits of the width: no more is known of either end.
    width = ends[1] - ends[0]
    decimals = min(6, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 1
    if metric.unit == "fraction":
        decimals = 1 if width >= 1 else 2
    low, high = (f"{end:{'+' if signed else ''}.{decimals}f}" for end in ends)
    return f"{low} … {high}"


def _scale(metric: Metric) -> float:
    """What a value is multiplied with where it is shown."""
    if metric.unit == "fraction":
        return 100.0
    return 1000.0 if metric.unit == "s" and abs(metric.value) < 0.1 else 1.0


def _digits(value: float, digits: int) -> str:
    """A value with so many significant digits, large ones written out."""
    return f"{float(f'{value:.{digits}g}'):.15g}"


def _scaled(number: int, units: tuple[str, ...]) -> str:
    if abs(number) < 1000:
        return f"{number} {units[0]}"
    value, unit = float(number), 0
    while abs(value) >= 999.5 and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {units[unit]}"
