"""Compute figures of a test split with their 95 % intervals, paired where two models saw the same items."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rcc.measurement.bootstrap import mean_interval
from rcc.measurement.interval import Interval
from rcc.measurement.paired import paired_intervals
from rcc.measurement.shares import share_interval


@dataclass(frozen=True)
class Figure:
    """A number and the interval in which it would lie on other items like these."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Figure:
        return Figure(self.value * factor, self.low * factor, self.high * factor)


def share(right: Tensor) -> Figure:
    """The share of items (n,) that are true."""
    value = right.double().mean().item()
    return _figure(value, share_interval(value, len(right)))


def mean(values: Tensor) -> Figure:
    """The mean of one value an item, (n,)."""
    return _figure(values.double().mean().item(), mean_interval(values.double().numpy()))


def paired_means(ours: Tensor, dense: Tensor) -> Figure:
    """The mean over items (n,) of what a value, or being true, changed by."""
    before, after = dense.double(), ours.double()
    (interval,) = paired_intervals([(before.numpy(), after.numpy())])
    return _figure((after - before).mean().item(), interval)


def _figure(value: float, interval: Interval) -> Figure:
    return Figure(value, interval.low, interval.high)
