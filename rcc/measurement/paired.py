"""Compare two models item by item: differences with the standard errors and intervals of paired samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.measurement.bootstrap import mean_intervals
from rcc.measurement.interval import LEVEL, Interval
from rcc.measurement.metrics import Difference, Measurement
from rcc.measurement.shares import paired_share_interval

PER_IMAGE = "per_image"
"""Key of an evaluator's details: for some of its metrics, by name, a value for each image whose mean is the metric."""
APART = "measured_apart"
"""Key of an evaluator's details: names of metrics that depend on the moment, and say nothing by their difference."""

Values = NDArray[np.float64]


def differences(measured: Measurement, first: Measurement, level: float = LEVEL) -> dict[str, Difference]:
    """The difference of `measured` to `first` by metric, in the order of `measured`.

    With values x_i and y_i for the same N images, the standard error is that of the mean of d_i = x_i − y_i,
    √(Σ (d_i − d̄)² / N²). For right and wrong answers this is McNemar's √(b + c − (b − c)² / N) / N, b and c being the
    images that only one of the two gets right. The interval is that of `paired_intervals`. A metric that is no mean
    over images has neither here. Times have no difference at all unless they were taken in turns, which an evaluator of
    costs does and reports as a speed-up.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    values, others = values_of(measured), values_of(first)
    before = {metric.name: metric for metric in first.metrics if metric.name not in _apart(first)}
    both = [name for name in values if name in others and len(values[name]) == len(others[name]) and name in before]
    pairs = [(others[name], values[name]) for name in both]
    intervals = dict(zip(both, paired_intervals(pairs, level), strict=True))
    found = {}
    for metric in measured.metrics:
        if metric.name in before:
            name, change = metric.name, metric.value - before[metric.name].value
            error = _standard_error(values[name] - others[name]) if name in intervals else None
            found[name] = Difference(change, error, intervals.get(name))
    return found


def paired_intervals(pairs: list[tuple[Values, Values]], level: float = LEVEL) -> list[Interval]:
    """The interval of the mean of y − x for each pair of values x and y, (N,) each, all over the same N images.

    For values 0 and 1 it is Tango's. For others it is the hull of the BCa bootstrap over images and of Tango's for how
    many images gained and lost, times the mean size of a change; where nothing changed, times the largest value: a
    bootstrap alone would be certain of what it did not see.
    """
    scores, drawn = [], {}
    for place, (before, after) in enumerate(pairs):
        apart = after - before
        sizes = np.abs(apart[apart != 0])
        size = float(sizes.mean()) if len(sizes) else float(max(np.abs(before).max(), np.abs(after).max())) or 1.0
        score = paired_share_interval(int((apart > 0).sum()), int((apart < 0).sum()), len(apart), level)
        scores.append(Interval(size * score.low, size * score.high, level))
        if len(sizes) and not (sizes == 1).all():
            drawn[place] = apart
    means = mean_intervals(np.stack(list(drawn.values()), axis=1), level) if drawn else []
    for place, interval in zip(drawn, means, strict=True):
        scores[place] = scores[place].hull(interval)
    return scores


def values_of(measured: Measurement) -> dict[str, Values]:
    """The values by image of each metric that is their mean, from the details of one evaluator or of several."""
    held: dict[str, Any] = {}
    for details in (measured.details, *measured.details.values()):
        if isinstance(details, dict):
            held |= details.get(PER_IMAGE) or {}
    values = {metric.name: metric.value for metric in measured.metrics}
    found = {name: np.asarray(each, dtype=np.float64) for name, each in held.items() if name in values and len(each)}
    # Values whose mean is something else than the metric would give the error of something else.
    return {name: each for name, each in found.items() if math.isclose(float(each.mean()), values[name], rel_tol=1e-6)}


def _apart(measured: Measurement) -> set[str]:
    return {
        name for details in measured.details.values() if isinstance(details, dict) for name in details.get(APART, ())
    }


def _standard_error(apart: Values) -> float:
    return float(np.sqrt(np.square(apart - apart.mean()).sum())) / len(apart)
