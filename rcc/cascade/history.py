"""Record a run: its plan, the dense baseline, every finished step, and the seconds it took."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rcc.analysis.overlap import summarise
from rcc.cascade.gate import Gate
from rcc.cascade.records import (
    DEFERRED,
    LEFT,
    LEFT_OUT,
    PASSED,
    RECOVERED,
    Attempt,
    Baseline,
    Step,
    StepRecord,
    Summary,
    TargetOutcome,
)
from rcc.cascade.suggestions import suggest
from rcc.errors import UserError, well_formed
from rcc.measurement import Measurement


@dataclass
class History:
    """Grows by one record a step; written with every checkpoint and read back on resume and rollback.

    `budget` is the state of the budget of a run with a target in bytes, see `Budget.to_json`; `target` what came of it,
    known after the last step. `refused` are the attempts of the next step that the gate refused after they were
    recovered. `seconds` are those since the run, or its resumed part, began.
    `validated` is what was measured besides the steps, by a name of the user's. `description` is what decides the
    result, see `rcc.cascade.configuration`.
    """

    steps: list[Step]
    baseline: Baseline | None = None
    records: list[StepRecord] = field(default_factory=list)
    refused: list[Attempt] = field(default_factory=list)
    budget: dict[str, Any] | None = None
    target: TargetOutcome | None = None
    seconds: float = 0.0
    validated: dict[str, Measurement] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)

    def was_left_out(self, place: int) -> bool:
        """Whether the last of that many steps was left out."""
        return place > 0 and self.records[place - 1].outcome == LEFT_OUT

    def remaining(self) -> list[Step]:
        """The steps that are still to be done, in order."""
        return self.steps[len(self.records) :]

    def add(self, record: StepRecord, budget: dict[str, Any] | None) -> None:
        """Append a finished step, and the state of the budget after it."""
        if record.outcome in PASSED and self.records and self.records[-1].outcome == DEFERRED:
            self.records[-1] = replace(self.records[-1], outcome=RECOVERED)
        self.records.append(record)
        self.refused, self.budget = [], budget

    @property
    def dense(self) -> Baseline:
        """The dense baseline.

        Raises:
            UserError: nothing was run yet.
        """
        if self.baseline is None:
            raise UserError("the pipeline has not run yet: call run(model, validator) first.")
        return self.baseline

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": [asdict(step) for step in self.steps],
            "baseline": None if self.baseline is None else asdict(self.baseline),
            "records": [record.to_json() for record in self.records],
            "budget": self.budget,
            "description": self.description,
            "validated": {name: measurement.to_json() for name, measurement in self.validated.items()},
        }

    def recall(self, data: dict[str, Any]) -> None:
        """Restore the baseline and the records of a checkpoint.

        Raises:
            UserError: the checkpoint belongs to a run with another plan, or is damaged.
        """
        with well_formed("the record of the checkpoint", "Start a fresh run."):
            self._recall(data)

    def _recall(self, data: dict[str, Any]) -> None:
        recorded = [Step(**step) for step in data["steps"]]
        if recorded and recorded != self.steps:  # none where it was saved before the first stage was added
            raise UserError(
                f"this state belongs to another cascade: it was made by the steps {_names(recorded)}, this run "
                f"has {_names(self.steps)}. Resume with the options the run was started with, or start afresh."
            )
        self.baseline = None if data["baseline"] is None else Baseline.from_json(data["baseline"])
        self.records = [StepRecord.from_json(record) for record in data["records"]]
        self.refused = []
        self.budget = data["budget"]
        self.validated = {name: Measurement.from_json(found) for name, found in data["validated"].items()}

    def left_out(self, step: Step, reason: str) -> StepRecord:
        """The record of a step that is not done."""
        return replace(self.rolled_back(step, ()), outcome=LEFT_OUT, reason=reason)

    def rolled_back(self, step: Step, attempts: Sequence[Attempt]) -> StepRecord:
        """The record of a step that changed nothing: its numbers are those of the step before it."""
        before = self.records[-1] if self.records else None
        return StepRecord(
            step=step,
            outcome="skipped",
            attempts=tuple(attempts),
            size=before.size if before else self.dense.size,
            retention=before.retention if before else 1.0,
            measurement=before.measurement if before else self.dense.measurement,
            interval=before.interval if before else None,
        )

    def measurements(self) -> dict[str, Measurement]:
        """'initial' for the dense model, each step's by its name, then those of `validated`."""
        dense = {} if self.baseline is None else {"initial": self.baseline.measurement}
        return dense | {record.step.name: record.measurement for record in self.records} | self.validated

    def reached(self, label: str) -> float:
        """The strength at which the last step of a stage left the model; 0 where none did. Softer ones than that would
        take back an earlier round."""
        done = (record for record in reversed(self.records) if record.step.label == label and record.outcome in LEFT)
        return next((record.attempts[-1].strength or 0.0 for record in done), 0.0)

    def projected_by(self, labels: Collection[str]) -> dict[str, str]:
        """For each unit, the label of the last of the stages `labels` that touched it."""
        done = [record for record in self.records if record.step.label in labels]
        return {name: record.step.label for record in done for name in record.touched}

    def overlap(self) -> dict[str, Any]:
        """Row spaces before and after the steps that found and left low-rank parts, over all such steps."""
        return summarise({record.step.name: record.overlap for record in self.records})

    def summary(self, gate: Gate) -> Summary:
        """Everything measured so far, with suggestions that follow from it."""
        last = self.records[-1] if self.records else None
        return Summary(
            baseline=self.dense,
            records=tuple(self.records),
            size=last.size if last else self.dense.size,
            retention=last.retention if last else 1.0,
            seconds=self.seconds,
            suggestions=suggest(self.records, gate),
            overlap=self.overlap(),
            target=self.target,
        )


def _names(steps: Sequence[Step]) -> str:
    return ", ".join(step.name if step.strength is None else f"{step.name} at {step.strength:.3g}" for step in steps)
