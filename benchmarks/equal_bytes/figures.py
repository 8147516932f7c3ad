"""Compute figures of a test split with their 95 % intervals, paired where two models saw the same items."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from torch import Tensor

Z = 1.959963984540054
SEED = 0


@dataclass(frozen=True)
class Figure:
    """A number and the interval in which it would lie on other items like these."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Figure:
        return Figure(self.value * factor, self.low * factor, self.high * factor)


def share(right: Tensor) -> Figure:
    """The share of items that are true, with Wilson's interval."""
    count, value = len(right), right.double().mean().item()
    middle, scale = value + Z**2 / (2 * count), 1 + Z**2 / count
    across = Z * math.sqrt(value * (1 - value) / count + Z**2 / (4 * count**2))
    return Figure(value, max(0.0, (middle - across) / scale), min(1.0, (middle + across) / scale))


def paired_shares(ours: Tensor, dense: Tensor) -> Figure:
    """The share of items that are true in `ours` minus that in `dense`, with Agresti and Min's interval.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", 2005.
    """
    count = len(ours)
    gained, lost = int((ours & ~dense).sum()), int((dense & ~ours).sum())
    middle = (gained - lost) / (count + 2)
    across = Z * math.sqrt((gained + lost + 1) - (gained - lost) ** 2 / (count + 2)) / (count + 2)
    value = (gained - lost) / count
    return Figure(value, min(value, middle - across), max(value, middle + across))


def mean(values: Tensor) -> Figure:
    """The mean of one value an item, with the BCa bootstrap's interval."""
    numbers = values.double().numpy()
    value = float(numbers.mean())
    if np.ptp(numbers) == 0:
        return Figure(value, value, value)
    found = bootstrap((numbers,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(SEED))
    return Figure(value, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_means(ours: Tensor, dense: Tensor) -> Figure:
    """The mean over items of what a value changed by."""
    return mean(ours.double() - dense.double())
