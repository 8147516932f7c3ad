"""What a pipeline keeps on disk: checkpoints to roll back to and resume from, and the dense model's outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from rcc.calibration.targets import dense_outputs, read_targets, write_targets
from rcc.cascade.bytes.budget import Target
from rcc.cascade.gate import Gate
from rcc.cascade.history import History
from rcc.cascade.state import StateStore
from rcc.errors import UserError
from rcc.models.adapter import Adapter
from rcc.stages.base import Batch, Stage


class Checkpointing:
    """The half of `RCCPipeline` that writes, restores and discards checkpoints."""

    gate: Gate
    history: History
    stages: list[Stage]
    target: Target | None
    _store: StateStore
    _keep_last: int
    _directory: Path | None
    _calibration: Sequence[Batch] | None

    def save_checkpoint(self, stage_name: str, model: Adapter) -> Path:
        """Write model, history and random states as one atomic checkpoint; returns its path.

        Of the steps that pass the gate, the smallest is the best, and is kept whatever comes after.
        """
        last = self.history.records[-1] if self.history.records else None
        passes = last is not None and not self.gate.problem(last.retention)
        score = -float(last.size.nbytes) if last and passes else float("-inf")
        return self._store.save(len(self.history.records), stage_name, model, self.history.to_json(), score)

    def rollback_to_checkpoint(self, stage_name: str, model: Adapter) -> bool:
        """Restore structure, weights and history of the last checkpoint of that stage ('initial' is the dense one).

        Later checkpoints are discarded. Returns False when rollback is off or no such checkpoint is kept any more.
        """
        labels = ["initial", *(record.step.label for record in self.history.records)]
        kept = [index for index in self._store.indices() if labels[index] == stage_name]
        if not self.gate.rollback or not kept:
            return False
        self._return_to(kept[-1], model)
        return True

    def _return_to(self, index: int, model: Adapter) -> None:
        self.history.recall(self._store.load(index, model))
        self._store.discard_after(index)

    def rollback_to_dense(self, model: Adapter) -> None:
        """Make `model` the dense model again, from the first checkpoint; the history stays as it is."""
        self._store.load(0, model)

    def _roll_back(self, model: Adapter) -> None:
        self._store.load(len(self.history.records), model)

    def _dense_targets(self, model: Adapter) -> Sequence[Mapping[str, Tensor]] | None:
        """The dense model's outputs on the calibration batches: computed once, read back on resume."""
        if self._calibration is None or not any(stage.needs_targets for stage in self.stages):
            return None
        path = self._store.directory / "targets.safetensors"
        if not path.exists():
            if self.history.records:
                self.rollback_to_dense(model)
            write_targets(path, dense_outputs(model, self._calibration))
            if self.history.records:
                self._roll_back(model)
        return read_targets(path)

    def _open_store(self, resume: bool) -> StateStore:
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="rcc-state-")
        # A target may send the run back to before its last round, which must be there then.
        keep_last = self._keep_last if self.target is None else max(self._keep_last, len(self.stages) + 1)
        store = StateStore(self._directory or Path(self._temporary.name), keep_last=keep_last)
        if store.indices() and not resume:
            raise UserError(
                f"{self._directory} already holds the state of a run: go on from it with resume=True "
                "(`rcc-run resume=<run directory>`), or choose another directory."
            )
        store.clean()
        return store
