"""Hold the metrics of an evaluation, each with a name, a unit and a direction, one of them primary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One number that knows its unit, its direction and, where it has one, its standard error."""

    name: str
    value: float
    unit: str = ""
    higher_is_better: bool = True
    standard_error: float | None = None


@dataclass(frozen=True)
class Difference:
    """What a metric changed by from one model to another, in its unit; the standard error where images are paired."""

    value: float
    standard_error: float | None = None


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
        return cls(**{**data, "metrics": tuple(Metric(**metric) for metric in data["metrics"])})
