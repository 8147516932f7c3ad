"""Compress a subject by the product, told a ratio and nothing else: the stages and rounds that `rcc-run` takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from subjects.subject import Subject

from equal_bytes.artifacts import target_of, written
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import GEOMETRIC, Schedule
from rcc.composing.composition import composer, own
from rcc.models.adapter import Adapter
from rcc.run import read
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.quant import Quantizer

ROUNDS = 4
OPEN = 1e-9
"""The gate lets every step pass: the rows are to be compared at the bytes that were asked."""


def artifact_of(subject: Subject, ratio: float, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the artifact, and facts of its row."""
    if subject.overrides:
        return by_command([*subject.overrides, f"target_ratio={ratio:g}"], scratch), {}
    model, facts = by_pipeline(subject, ratio, scratch)
    return written(model, scratch / "artifact"), facts


def by_command(overrides: Sequence[str], scratch: Path) -> Path:
    """The artifact of `rcc-run` with these overrides, in this process."""
    scratch.mkdir(parents=True, exist_ok=True)
    with composer() as configs, (scratch / "output").open("w") as output, redirect_stdout(output):
        cfg = configs.compose(overrides)
        read(own(cfg), cfg.hydra.runtime.choices, scratch / "run", list(overrides)).run()
    return scratch / "run" / "artifact"


def by_pipeline(subject: Subject, ratio: float, scratch: Path) -> tuple[Adapter, dict[str, Any]]:
    """The compressed model, the processor seconds in the gate, and what the run says of its steps and its target."""
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
        f"{record.step.name} {record.outcome}" + ("" if strength is None else f" at {strength:.3f}")
        for record in summary.records
        for strength in [record.attempts[-1].strength if record.attempts else None]
    )
    problem = "" if summary.target is None else summary.target.reason
    return model, {"gate_seconds": inside, "problem": problem, "note": steps}
