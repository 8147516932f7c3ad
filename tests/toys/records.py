"""Sample runs: measurements, sizes, steps and attempts as a cascade records them."""

from __future__ import annotations

from rcc.cascade.records import Attempt, Size, Step
from rcc.measurement import Interval, Measurement, Metric

DENSE_BYTES = 2_500_000


def measured(accuracy: float, split: str = "selection") -> Measurement:
    metrics = (
        Metric("accuracy", accuracy, "fraction", True, 0.004, Interval(accuracy - 0.012, accuracy + 0.0025)),
        Metric("top5_accuracy", 1.0, "fraction"),
    )
    return Measurement(metrics, "accuracy", split, 360, {"templates": ["a photo of the digit {}"]})


def sized(nbytes: int) -> Size:
    return Size(nbytes, stored=1_250_000, nonzeros=nbytes // 2)


def steps_of(*labels: str, rounds: int = 1) -> list[Step]:
    places = [(round, label) for round in range(1, rounds + 1) for label in labels]
    return [
        Step(index, round, rounds, label, label.split("_")[0], 0.9 if label != "alpha" else None)
        for index, (round, label) in enumerate(places, 1)
    ]


def attempt_at(strength: float | None, number: int = 1, kept: float = 0.99, problem: str = "") -> Attempt:
    return Attempt(number, strength, 2.5, 400_000_000, sized(900_000), measured(kept), kept, problem)
