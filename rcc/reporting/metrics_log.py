"""metrics.jsonl: every number of a run with its step, stage, round, attempt and unit, one JSON object a line.

(step, stage, round, attempt, name) is unique within a run, however often it was killed and resumed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rcc.atomic import write_text
from rcc.cascade.records import DEFERRED, RECOVERED, Attempt, Baseline, Size, Step, StepRecord, Summary, TargetOutcome
from rcc.limits import regular_file
from rcc.measurement import Interval, Measurement
from rcc.reporting.delivery import Delivery
from rcc.reporting.observers import RunObserver

FILE = "metrics.jsonl"
KEPT = ("kept", "continued", DEFERRED, RECOVERED)
"""Outcomes after which the model is what the step made of it."""
KEY = ("step", "stage", "round", "attempt", "name")

Number = tuple[str, float, str]
"""A name, a value and a unit."""


class MetricsLog(RunObserver):
    """Appends to `directory`/metrics.jsonl; every event is flushed and forced to disk before the run goes on.

    Step 0 is the dense model. Numbers of the whole run have no step. A value that is not finite is written
    as null, with the text of it under 'not_finite'.
    """

    def __init__(self, directory: Path | str) -> None:
        self.path = Path(directory) / FILE
        self._known: set[tuple[Any, ...]] = set()

    def run_started(self, steps: Sequence[Step], finished: int) -> None:
        """Keep what finished steps wrote; drop a half-written line and all that will be written again."""
        self._keep([line for line in read_metrics(self.path) if line["step"] is not None and line["step"] <= finished])
        plan: list[Number] = [("steps", len(steps), "steps"), ("steps_done_before", finished, "steps")]
        self._write(plan, stage="run")

    def baseline_measured(self, baseline: Baseline) -> None:
        seconds: Number = ("seconds", baseline.seconds, "s")
        self._write([*_measured(baseline.measurement), *_sized(baseline.size), seconds], step=0, stage="dense")

    def attempt_finished(self, step: Step, attempt: Attempt) -> None:
        numbers: list[Number] = [("seconds", attempt.seconds, "s")]
        numbers.append(("peak_memory", attempt.peak_bytes, "bytes"))
        if attempt.strength is not None:
            numbers.append(("strength", attempt.strength, ""))
        if attempt.retention is not None:
            numbers.append(("retention", attempt.retention, "fraction"))
            numbers += _ends("retention", attempt.interval, "fraction")
        if attempt.size is not None:
            numbers += _sized(attempt.size)
        if attempt.measurement is not None:
            numbers += _measured(attempt.measurement)
        self._write(numbers, step=step.index, stage=step.label, round=step.round, attempt=attempt.number)

    def step_finished(self, record: StepRecord) -> None:
        numbers: list[Number] = [
            ("kept", float(record.outcome in KEPT), "0 or 1"),
            ("unchanged", float(record.outcome == "unchanged"), "0 or 1"),
            ("retention", record.retention, "fraction"),
            *_ends("retention", record.interval, "fraction"),
            ("seconds", record.seconds, "s"),
            ("peak_memory", record.peak_bytes, "bytes"),
            ("units_touched", len(record.touched), "units"),
            ("units_skipped", len(record.skipped), "units"),
            *_sized(record.size),
            *_measured(record.measurement),
            *_leaves("facts", record.facts),
            *_leaves("overlap", record.overlap),
            *_leaves("units", record.touched),
        ]
        step = record.step
        self._write(numbers, step=step.index, stage=step.label, round=step.round)

    def step_refused(self, step: Step, attempt: Attempt) -> None:
        """Drop what was written after its attempts."""

        def stays(line: dict[str, Any]) -> bool:
            own = line["step"] == step.index and line["attempt"] is not None
            return own or line["step"] is None or line["step"] < step.index

        self._keep([line for line in read_metrics(self.path) if stays(line)])

    def target_shared(self, shares: Mapping[str, float]) -> None:
        self._write([(f"target_share/{label}", share, "fraction") for label, share in shares.items()], "run")

    def round_repeated(self, steps: Sequence[Step], outcome: TargetOutcome) -> None:
        """Drop what the steps wrote that will be done again."""
        first = steps[0].index
        self._keep([line for line in read_metrics(self.path) if line["step"] is None or line["step"] < first])

    def run_finished(self, summary: Summary) -> None:
        numbers = [
            ("retention", summary.retention, "fraction"),
            ("seconds", summary.seconds, "s"),
            *_sized(summary.size),
            *_leaves("overlap", summary.overlap),
        ]
        if summary.target is not None:
            numbers += [
                ("target_bytes", summary.target.nbytes, "bytes"),
                ("expected_artifact_bytes", summary.target.reached, "bytes"),
                ("rounds_repeated", summary.target.repeats, "rounds"),
            ]
        self._write(numbers, stage="run")

    def delivered(self, delivery: Delivery) -> None:
        numbers: list[Number] = [
            ("artifact_bytes", delivery.nbytes, "bytes"),
            *((f"dense_{dtype}_bytes", nbytes, "bytes") for dtype, nbytes in delivery.dense_bytes.items()),
            ("retention", delivery.retention, "fraction"),
            *_measured(delivery.dense, "dense."),
            *_measured(delivery.compressed, "compressed."),
            *_changed(delivery),
        ]
        self._write(numbers, stage="artifact")

    def _keep(self, lines: Sequence[dict[str, Any]]) -> None:
        """Make the file hold these lines and no others."""
        self._known = {_key(line) for line in lines}
        if self.path.exists():
            write_text(self.path, "".join(_dump(line) for line in lines))

    def _write(
        self,
        numbers: Sequence[Number],
        stage: str,
        step: int | None = None,
        round: int | None = None,
        attempt: int | None = None,
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = []
        for name, value, unit in numbers:
            line: dict[str, Any] = dict(zip(KEY, (step, stage, round, attempt, name), strict=True))
            if _key(line) in self._known:
                continue
            self._known.add(_key(line))
            finite = math.isfinite(value)
            line |= {"value": value if finite else None, "unit": unit, "time": now}
            lines.append(_dump(line if finite else line | {"not_finite": str(value)}))
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(lines))
            stream.flush()
            os.fsync(stream.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics.jsonl, in order; [] if there is no file."""
    if not path.exists():
        return []
    file = regular_file(path, limit="table_bytes")
    with file.open(encoding="utf-8", errors="replace", newline="\n") as stream:
        texts = [text for text in stream if text.endswith("\n")]
    return [line for line in map(_parsed, texts) if line is not None]


def _parsed(text: str) -> dict[str, Any] | None:
    """A line as written by `MetricsLog`, or None for anything else."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and all(field in line for field in KEY) else None


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[field] for field in KEY)


def _dump(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _sized(size: Size) -> list[Number]:
    return [
        ("bytes", size.nbytes, "bytes"),
        ("stored", size.stored, "parameters"),
        ("nonzeros", size.nonzeros, "parameters"),
    ]


def _measured(measurement: Measurement, prefix: str = "") -> list[Number]:
    numbers: list[Number] = [(f"{prefix}samples", measurement.samples, "samples")]
    for metric in measurement.metrics:
        numbers.append((prefix + metric.name, metric.value, metric.unit))
        if metric.standard_error is not None:
            numbers.append((f"{prefix}{metric.name}.standard_error", metric.standard_error, metric.unit))
        numbers += _ends(f"{prefix}{metric.name}", metric.bounds, metric.unit)
    return numbers


def _changed(delivery: Delivery) -> list[Number]:
    """The difference of each metric from dense to compressed, and the ends of its interval."""
    numbers: list[Number] = []
    for metric in delivery.compressed.metrics:
        if apart := delivery.differences.get(metric.name):
            numbers.append((f"difference.{metric.name}", apart.value, metric.unit))
            numbers += _ends(f"difference.{metric.name}", apart.bounds, metric.unit)
    return numbers


def _ends(name: str, bounds: Interval | None, unit: str) -> list[Number]:
    return [] if bounds is None else [(f"{name}.low", bounds.low, unit), (f"{name}.high", bounds.high, unit)]


def _leaves(prefix: str, value: object) -> Iterator[Number]:
    """The numbers inside nested mappings and sequences, under dotted names; text and None are not numbers."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{prefix}.{name}", inner)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _leaves(f"{prefix}.{index}", inner)
    elif isinstance(value, (bool, int, float)):
        yield prefix, value + 0, ""
