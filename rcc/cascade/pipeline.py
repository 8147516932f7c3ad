"""The cascade: stages in order, round after round, each measured, gated, and kept, softened or rolled back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from rcc.analysis.overlap import overlap, row_spaces
from rcc.cascade.attempt import Validator, attempt_step, measure_dense
from rcc.cascade.bytes.balance import balancing, no_strength, solved_for
from rcc.cascade.bytes.budget import Target
from rcc.cascade.bytes.targeting import Targeting
from rcc.cascade.checkpointing import Checkpointing
from rcc.cascade.gate import Gate
from rcc.cascade.history import History
from rcc.cascade.plan import Plan, plan_run
from rcc.cascade.records import Attempt, Observer, Step, StepRecord
from rcc.cascade.schedule import Schedule, order_problems
from rcc.cascade.specification import PipelineViews
from rcc.errors import Problems, UserError, WorkError
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.entropy import ENTROPIES
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import Batch, Stage, StageContext


class RCCPipeline(Targeting, Checkpointing, PipelineViews):
    """Compresses a model by a cascade of stages, with checkpoints, a gate on retention, and rollback.

    >>> pipeline = RCCPipeline(performance_threshold=0.95)
    >>> pipeline.add_stage(DARECompressor(target_sparsity=0.5)).add_stage(AlphaEditor())
    >>> compressed = pipeline.run(model, validator, calibration=batches)

    Args:
        stages: the cascade, in order; `add_stage` appends to it.
        performance_threshold: least share of the dense model's primary metric that every step must keep.
        rollback_enabled: False keeps a failed step and goes on with the degraded model.
        tries, on_failure, on_error: softer attempts after a failed one, and what follows: see `Gate`.
        schedule: rounds, and the share of every stage's target asked for in each.
        directory: where state is kept so that a killed run can go on; a temporary directory by default.
        keep_last: checkpoints kept beside the first and the best.
        seed: what every random choice of every step is derived from.
        storage_dtype, storage_entropy: in what bytes are counted: 'float32', 'float16' or 'bfloat16'; 'zstd' or 'none'.
        target: bytes the artifact is to take; the strengths of the stages that have one are then solved for.
        observer: is told what happens and never changes it.
    """

    def __init__(
        self,
        stages: Sequence[Stage] = (),
        *,
        performance_threshold: float = 0.95,
        rollback_enabled: bool = True,
        tries: int = 3,
        on_failure: str = "skip",
        on_error: str = "abort",
        schedule: Schedule | None = None,
        directory: Path | str | None = None,
        keep_last: int = 2,
        seed: int = 0,
        storage_dtype: str = "float16",
        storage_entropy: str = "zstd",
        target: Target | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.gate = Gate(performance_threshold, tries, on_failure, on_error, rollback_enabled)
        self.schedule = schedule or Schedule()
        self.seed = seed
        problems = Problems("pipeline")
        problems.choice("storage_dtype", storage_dtype, STORED_DTYPES)
        problems.choice("storage_entropy", storage_entropy, ENTROPIES)
        problems.done()
        self.dtype = STORED_DTYPES[storage_dtype]
        self.entropy = storage_entropy
        self.target = target
        self.observer = observer
        self.stages: list[Stage] = []
        self.history = History([])
        self._keep_last = keep_last
        self._budget = None
        self._directory = None if directory is None else Path(directory)
        self._calibration: Sequence[Batch] | None = None
        self._targets: Sequence[Mapping[str, Tensor]] | None = None
        for stage in stages:
            self.add_stage(stage)

    def add_stage(self, stage: Stage) -> Self:
        """Append a stage; a repeated method is labelled 'dare_2', 'dare_3', …. Returns the pipeline."""
        if not stage.label:
            earlier = sum(other.method == stage.method for other in self.stages)
            stage.labelled(stage.method if earlier == 0 else f"{stage.method}_{earlier + 1}")
        if stage.label in {other.label for other in self.stages}:
            raise UserError(f"two stages are labelled '{stage.label}'; labels tell them apart in reports.")
        self.stages.append(stage)
        return self

    def steps(self) -> list[Step]:
        """Every step of a run in order. Those of stages that a target decides have no strength yet."""
        solved = () if self.target is None else solved_for(self.stages, self.target.split)
        return self.schedule.steps(self.stages, solved)

    def plan(self, model: Adapter) -> Plan:
        """What a run would do to `model`, whose parameters may be on the meta device."""
        self._require_stages()
        return plan_run(model, self.stages, self.schedule, self.dtype, self.target)

    def run(
        self,
        model: Adapter | nn.Module,
        validator: Validator,
        calibration: Sequence[Batch] | None = None,
        *,
        resume: bool = False,
    ) -> Adapter:
        """Run every step that is not done yet and return the compressed model, changed in place.

        Args:
            model: the dense model; a bare module is given a `ModuleAdapter`, which is what the validator gets.
            validator: measures the model on the selection split: a `Measurement`, or a number that is better
                when higher.
            calibration: batches the stages may learn from; never those the validator uses.
            resume: go on from the state in `directory` instead of refusing it.

        Raises:
            UserError: nothing to compress, calibration data missing, or state found without `resume`.
            WorkError: a stage failed and `on_error` or `on_failure` is 'abort'.
        """
        started = time.perf_counter()
        model = self.model = model if isinstance(model, Adapter) else ModuleAdapter(model)
        self._require_stages()
        self._require_calibration(calibration)
        for stage in self.stages:
            stage.choose(model)
        self.history = History(self.steps())
        self._calibration = calibration
        self._store = self._open_store(resume)
        finished = self._store.latest()
        self._tell("run_started", self.history.steps, finished or 0)
        if finished is None:
            self.history.baseline = measure_dense(model, validator, self.dtype)
            self.save_checkpoint("initial", model)
            # A resumed run computes with weights read from a checkpoint, so this one does too: mapped from a foreign
            # file they can lie unaligned in memory, and then sums come out in another order.
            self.rollback_to_dense(model)
        else:
            if 0 not in self._store.indices():
                raise UserError(f"{self._directory} has lost its first step, the dense model: start a fresh run.")
            self.history.recall(self._store.load(finished, model.eval()))
        self._tell("baseline_measured", self.history.dense)
        self._targets = self._dense_targets(model)
        self._budget = self._open_budget(model)
        while not self._done(model):
            step = self.history.steps[len(self.history.records)]
            record = self._run_step(step, model, validator)
            self.history.records.append(record)
            self.history.budget = None if self._budget is None else self._budget.to_json()
            self.save_checkpoint(step.label, model)
            self._tell("step_finished", record)
        self._tell("run_finished", self.get_pipeline_summary(time.perf_counter() - started))
        return model

    run_pipeline = run  # the specification's name for it

    def _run_step(self, step: Step, model: Adapter, validator: Validator) -> StepRecord:
        """Attempt a step until it passes, cannot be softened further, or the tries are used up."""
        stage = next(stage for stage in self.stages if stage.label == step.label)
        spaces = row_spaces(model.units())
        attempts: list[Attempt] = []
        strength = step.strength
        if self._budget is not None and self._budget.decides(step):
            strength = self._budget.strength(step, model)
        while True:
            self._tell("step_started", step, len(attempts) + 1, strength)
            attempt, report = attempt_step(
                len(attempts) + 1,
                stage if strength in (None, stage.strength) else stage.at(strength),
                self._context(step, len(attempts) + 1, model),
                model,
                validator,
                self.history.dense,
                self.gate,
                self.dtype,
                self.entropy,
            )
            attempts.append(attempt)
            self._tell("attempt_finished", step, attempt)
            if report is not None and not attempt.problem:
                outcome = "kept"
                break
            strength = self.gate.softer(strength, attempt.retention or 0.0)
            tired = strength is None or len(attempts) > self.gate.tries
            if report is None or tired or not self.gate.rollback:
                outcome = self._settle(step, attempt, broken=report is None)
                break
            self._roll_back(model)
        if outcome == "skipped":
            self._roll_back(model)
            return self.history.rolled_back(step, attempts)
        assert report is not None
        assert attempt.size is not None
        assert attempt.measurement is not None
        assert attempt.retention is not None
        return StepRecord(
            step=step,
            outcome=outcome,
            attempts=tuple(attempts),
            size=attempt.size,
            retention=attempt.retention,
            measurement=attempt.measurement,
            touched=report.touched,
            skipped=tuple((skipped.name, skipped.reason) for skipped in report.skipped),
            facts=report.facts,
            overlap=overlap(spaces, row_spaces(model.units())),
        )

    def _settle(self, step: Step, attempt: Attempt, broken: bool) -> str:
        """What becomes of a step that failed for good: 'skipped', 'continued', or the end of the run."""
        abort = self.gate.on_error == "abort" if broken else self.gate.on_failure == "abort"
        if abort:
            setting = "gate.on_error" if broken else "gate.on_failure"
            raise WorkError(
                f"{step.name}: {attempt.problem} (attempt {attempt.number}). The run ends because {setting} is "
                f"'abort'; {setting}=skip would roll the step back and go on. Finished steps are kept."
            )
        if broken:
            return "skipped"
        return "continued" if self.gate.on_failure == "continue" or not self.gate.rollback else "skipped"

    def _context(self, step: Step, attempt: int, model: Adapter) -> StageContext:
        digest = hashlib.sha256(f"{self.seed}/{step.index}/{attempt}".encode()).digest()
        return StageContext(
            seed=int.from_bytes(digest[:6], "big"),
            calibration=self._calibration,
            targets=self._targets,
            reference=self._store.reference,
            dense=lambda: self._store.dense(model),
            storage=self.dtype,
            progress=lambda done, total, what: self._tell("progressed", done, total, what),
        )

    def _require_stages(self) -> None:
        if not self.stages:
            raise UserError("the cascade has no stages: add one with add_stage(), or say stage=dare+nullu+alpha.")
        wrong = order_problems(self.stages)
        if self.target is not None and balancing(self.stages) is None:
            wrong.append(no_strength(self.stages))
        if wrong:
            raise UserError(*wrong)

    def _require_calibration(self, calibration: Sequence[Batch] | None) -> None:
        asking = [stage.label for stage in self.stages if stage.needs_calibration]
        if asking and not calibration:
            raise UserError(
                f"no calibration data for {', '.join(asking)}: pass calibration= batches, use a data= with a "
                "calibration split, or leave the stage out of stage=."
            )

    def _tell(self, event: str, *details: Any) -> None:
        if self.observer is not None:
            getattr(self.observer, event)(*details)
