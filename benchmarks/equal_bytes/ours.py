"""Compress a subject by the product, told a ratio and nothing else: the stages and rounds that `rcc-run` takes."""

from __future__ import annotations

import time
from pathlib import Path

from subjects.subject import Subject

from equal_bytes.artifacts import target_of
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import GEOMETRIC, Schedule
from rcc.models.adapter import Adapter
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.quant import Quantizer

ROUNDS = 4
OPEN = 1e-9
"""The gate lets every step pass: the rows are to be compared at the bytes that were asked."""


def compressed(subject: Subject, ratio: float, scratch: Path) -> tuple[Adapter, dict[str, object]]:
    """The compressed model, and facts of its row: processor seconds in the gate, what the run says of the target."""
    model = subject.dense()
    inside = 0.0

    def quality(now: Adapter) -> float:
        nonlocal inside
        started = time.process_time()
        found = subject.selection_quality(now)
        inside += time.process_time() - started
        return found

    pipeline = RCCPipeline(
        [DARECompressor(), Quantizer()],
        performance_threshold=OPEN,
        schedule=Schedule(ROUNDS, GEOMETRIC),
        directory=scratch / "state",
        target=target_of(model, ratio, scratch),
    )
    pipeline.run(model, quality, calibration=subject.calibration())
    summary = pipeline.get_pipeline_summary()
    steps = ", ".join(
        f"{record.step.name} {record.outcome} at {strength:.3f}"
        for record in summary.records
        if (strength := record.attempts[-1].strength if record.attempts else None) is not None
    )
    problem = "" if summary.target is None else summary.target.reason
    return model, {"gate_seconds": inside, "problem": problem, "note": steps}
