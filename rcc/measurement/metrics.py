"""Hold the metrics of an evaluation, each with a name, a unit and a direction, one of them primary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rcc.measurement.interval import Interval, normal_interval


@dataclass(frozen=True)
class Metric:
    """One number that knows its unit, its direction and, where it has them, its standard error and interval.

    Attributes:
        interval: where the metric would lie on all items of which these are a sample.
        chance: what a model would reach that does not look at its inputs; None where that is not known.
    """

    name: str
    value: float
    unit: str = ""
    higher_is_better: bool = True
    standard_error: float | None = None
    interval: Interval | None = None
    chance: float | None = None

    @property
    def bounds(self) -> Interval | None:
        """The interval, or that of a normal distribution where an evaluator gave a standard error alone."""
        return bounds_of(self)


@dataclass(frozen=True)
class Difference:
    """What a metric changed by from one model to another, in its unit; the rest where items are paired."""

    value: float
    standard_error: float | None = None
    interval: Interval | None = None

    @property
    def bounds(self) -> Interval | None:
        """The interval, or that of a normal distribution where there is a standard error alone."""
        return bounds_of(self)


def bounds_of(number: Metric | Difference) -> Interval | None:
    """The interval of a number, or that of a normal distribution where it has a standard error alone."""
    if number.interval is not None or number.standard_error is None:
        return number.interval
    return normal_interval(number.value, number.standard_error)


@dataclass(frozen=True)
class Measurement:
    """The metrics of one evaluation over `samples` items; `primary` names the one the gate reads."""

    metrics: tuple[Metric, ...]
    primary: str
    split: str = ""
    samples: int = 0
    details: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Metric:
        return next(metric for metric in self.metrics if metric.name == name)

    @property
    def main(self) -> Metric:
        """The primary metric."""
        return self[self.primary]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measurement:
        """From `to_json`, also of an earlier run, whose metrics had no interval."""
        return cls(**{**data, "metrics": tuple(_metric(metric) for metric in data["metrics"])})


def _metric(data: dict[str, Any]) -> Metric:
    interval = data.get("interval")
    return Metric(**{**data, "interval": None if interval is None else Interval(**interval)})
