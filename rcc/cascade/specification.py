"""The specification's names (§2.1) for what a pipeline knows: views on its gate, history and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.cascade.attempt import Validator, measure
from rcc.cascade.gate import Gate, retention
from rcc.cascade.history import History
from rcc.cascade.records import Summary
from rcc.cascade.state import StateStore
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage


class PipelineViews:
    """What `RCCPipeline` shows of itself under the specification's names. Nothing here changes a run."""

    gate: Gate
    history: History
    stages: list[Stage]
    model: Adapter | None = None
    _store: StateStore

    @property
    def performance_threshold(self) -> float:
        """Least share of the dense model's primary metric that every step must keep."""
        return self.gate.threshold

    @property
    def rollback_enabled(self) -> bool:
        return self.gate.rollback

    @property
    def current_stage(self) -> int:
        """Index of the last finished step among all, from 0; -1 before the first."""
        return len(self.history.records) - 1

    @property
    def stage_configs(self) -> dict[str, dict[str, Any]]:
        """Method and target strength of each stage, by label."""
        return {stage.label: {"method": stage.method, "strength": stage.strength} for stage in self.stages}

    @property
    def validation_metrics(self) -> dict[str, Measurement]:
        """What was measured on the selection split: 'initial', then after each step by its name."""
        if self.history.baseline is None:
            return {}
        steps = {record.step.name: record.measurement for record in self.history.records}
        return {"initial": self.history.dense.measurement, **steps}

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The checkpoints that are kept, by their directory's name; each loads as an artifact does."""
        if not hasattr(self, "_store"):  # nothing was run yet
            return {}
        return {path.name: path for path in sorted(self._store.directory.glob("step-*"))}

    def validate_stage(self, model: Adapter, validator: Validator) -> tuple[Measurement, bool]:
        """Measure the model and say whether it would pass the gate against the dense baseline."""
        measurement = measure(model, validator)
        kept = retention(self.history.dense.measurement.main, measurement.main)
        return measurement, not self.gate.problem(kept)

    def analyze_null_space_overlap(self) -> dict[str, Any]:
        """Overlap of each layer's row space before and after every step that found and changed a low-rank part."""
        return self.history.overlap()

    def get_pipeline_summary(self, seconds: float = 0.0) -> Summary:
        """Everything measured so far, with suggestions that follow from it."""
        return self.history.summary(self.gate, seconds)
