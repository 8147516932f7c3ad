"""Differences of two models measured on the same images, with the standard errors of paired samples."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rcc.measurement import Difference, Measurement

PER_IMAGE = "per_image"
"""Key of an evaluator's details: for some of its metrics, by name, a value for each image whose mean is the metric."""
APART = "measured_apart"
"""Key of an evaluator's details: names of metrics that depend on the moment, and say nothing by their difference."""


def differences(measured: Measurement, first: Measurement) -> dict[str, Difference]:
    """The difference of `measured` to `first` by metric, in the order of `measured`.

    With values x_i and y_i for the same N images, the standard error is that of the mean of d_i = x_i − y_i,
    √(Σ (d_i − d̄)² / N²). For right and wrong answers this is McNemar's √(b + c − (b − c)² / N) / N, b and c being the
    images that only one of the two gets right. A metric that is no mean over images has none here. Times have no
    difference at all unless they were taken in turns, which an evaluator of costs does and reports as a speed-up.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    values, others = _per_image(measured), _per_image(first)
    before = {metric.name: metric for metric in first.metrics if metric.name not in _apart(first)}
    found = {}
    for metric in measured.metrics:
        if metric.name in before:
            error = _paired_error(values.get(metric.name), others.get(metric.name))
            found[metric.name] = Difference(metric.value - before[metric.name].value, error)
    return found


def _per_image(measured: Measurement) -> dict[str, Tensor]:
    """The values of each metric that is their mean."""
    held: dict[str, Any] = {}
    for details in measured.details.values():
        if isinstance(details, dict):
            held |= details.get(PER_IMAGE) or {}
    values = {metric.name: metric.value for metric in measured.metrics}
    found = {name: torch.tensor(each, dtype=torch.float64) for name, each in held.items() if name in values and each}
    # Values whose mean is something else than the metric would give the error of something else.
    return {name: each for name, each in found.items() if math.isclose(float(each.mean()), values[name], rel_tol=1e-6)}


def _apart(measured: Measurement) -> set[str]:
    return {
        name for details in measured.details.values() if isinstance(details, dict) for name in details.get(APART, ())
    }


def _paired_error(values: Tensor | None, others: Tensor | None) -> float | None:
    if values is None or others is None or len(values) != len(others):
        return None
    apart = values - others
    return float((apart - apart.mean()).square().sum().sqrt()) / len(apart)
