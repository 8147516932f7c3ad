"""Hand-made records of a run: the dense model, a step that backed off, one skipped, one kept at once."""

from __future__ import annotations

import pytest
from toys.records import DENSE_BYTES, attempt_at, measured, sized, steps_of

from rcc.cascade.records import Attempt, Baseline, Step, StepRecord, Summary
from rcc.measurement import Difference, Interval
from rcc.reporting.delivery import Delivery


@pytest.fixture
def steps() -> list[Step]:
    return steps_of("dare", "nullu", "alpha")


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(measured(0.9972), sized(DENSE_BYTES), 1.25)


@pytest.fixture
def records(steps: list[Step]) -> tuple[StepRecord, ...]:
    miss = "kept 42.0% of the dense model, less than 95.0%"
    norms = (("vision_model.encoder.layers.0.layer_norm1", "role 'norm' is not compressed by default"),)
    norms += (("vision_model.encoder.layers.1.layer_norm1", "role 'norm' is not compressed by default"),)
    square = (("text_projection", "factors of rank 64 would not be smaller"),)
    return (
        StepRecord(
            steps[0],
            "kept",
            (attempt_at(0.9, 1, 0.42, miss), attempt_at(0.45, 2)),
            sized(900_000),
            0.99,
            measured(0.9872),
            touched={"visual_projection": {"sparsity": 0.45, "score": "magnitude"}},
            skipped=norms,
            facts={"sparsity": 0.45, "auto": {"solver": "admm", "allocation": "sensitivity"}},
        ),
        StepRecord(
            steps[1],
            "skipped",
            (Attempt(1, 0.9, 3.0, 500_000_000, problem="layer fc1 (256, 64) holds NaN"),),
            sized(900_000),
            0.99,
            measured(0.9872),
            skipped=norms + square,
            facts={"energy": float("nan")},
        ),
        StepRecord(steps[2], "kept", (attempt_at(None),), sized(900_000), 0.995, measured(0.9922)),
    )


@pytest.fixture
def summary(baseline: Baseline, records: tuple[StepRecord, ...]) -> Summary:
    suggestion = "nullu was rolled back: start below 0.90 with `stage.nullu.rank_reduction_ratio=`."
    return Summary(baseline, records, sized(900_000), 0.995, 12.0, (suggestion,))


@pytest.fixture
def delivery() -> Delivery:
    return Delivery(
        artifact="outputs/2026-11-20/10-00-00/artifact",
        dtype="float16",
        nbytes=1_000_000,
        dense_bytes={"float32": 5_050_000, "float16": 2_550_000},
        dense=measured(0.9972, "test"),
        compressed=measured(0.9917, "test"),
        retention=0.9945,
        differences={
            "accuracy": Difference(-0.0055, 0.0047, Interval(-0.0189, 0.0051)),
            "top5_accuracy": Difference(0.0),
        },
        again="rcc-run job=evaluate artifact=outputs/2026-11-20/10-00-00/artifact data=cifar10",
    )
