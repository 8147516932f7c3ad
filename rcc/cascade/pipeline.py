"""Run a cascade: stages in order, round after round, each measured, gated, and kept, softened or rolled back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from rcc.cascade.abandonment import Question
from rcc.cascade.attempt import Validator, measure_dense, measure_items
from rcc.cascade.bytes.balance import solved_for
from rcc.cascade.bytes.budget import Target
from rcc.cascade.execution import Execution
from rcc.cascade.gate import Gate, retention, retention_interval
from rcc.cascade.history import History
from rcc.cascade.inputs import Item, as_measurement, held_out, items_of, training_of, with_state
from rcc.cascade.plan import Plan, plan_run
from rcc.cascade.records import Observer, Step, Summary, Unobserved
from rcc.cascade.requirements import require_data, require_stages
from rcc.cascade.schedule import Schedule
from rcc.cascade.state import StateStore
from rcc.cascade.validators import WANTED, OutputCosine, validator_of
from rcc.errors import Problems, UserError
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.entropy import ENTROPIES
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import Stage, TrainingData
from rcc.stages.named import stage_of


class RCCPipeline:
    """Compresses a model by a cascade of stages, with checkpoints, a gate on retention, and rollback.

    >>> pipeline = RCCPipeline(performance_threshold=0.95)
    >>> pipeline.add_stage(DARECompressor(target_sparsity=0.5)).add_stage(AlphaEditor())
    >>> compressed = pipeline.run(model, validator, calibration=batches)

    Args:
        model: what `run_pipeline` compresses; `run` is given one itself. Stages alone may stand in this place.
        stages: the cascade, in order, each a stage or its type and options, {"type": "dare", "target_sparsity": 0.9};
            `add_stage` appends to it.
        performance_threshold: least share of the dense model's primary metric that every step must keep.
        rollback_enabled: False keeps a failed step and goes on with the degraded model.
        tries, on_failure, on_error, confidence, on_chance: softer attempts after a failed one, what follows, and how
            sure of a step the gate must be: see `Gate`.
        schedule: rounds, and the share of every stage's target asked for in each.
        directory: where state is kept so that a killed run can go on; a temporary directory by default.
        keep_last: checkpoints kept beside the first and the best.
        seed: what every random choice of every step is derived from.
        storage_dtype, storage_entropy: in what bytes are counted: 'float32', 'float16' or 'bfloat16'; 'zstd' or 'none'.
        fold: fold batch norms and drop biases that cannot matter before the first stage: `rcc.cascade.preparation`.
        target: bytes the artifact is to take; the strengths of the stages that have one are then solved for.
        observer: is told what happens and never changes it.
        abandon: is given the finished steps before each that is left, and returns why going on is not worth it, or '';
            then `run` raises `AbandonedError`, and a resumed run asks again. For searches that stop trials early.

    Attributes:
        state: the checkpoints.
        history: plan, baseline and records.
        model: the one that is compressed; None before there is one.
    """

    def __init__(
        self,
        model: Adapter | nn.Module | Sequence[Stage | Mapping[str, Any]] | None = None,
        stages: Sequence[Stage | Mapping[str, Any]] = (),
        performance_threshold: float = 0.95,
        rollback_enabled: bool = True,
        *,
        tries: int = 3,
        on_failure: str = "skip",
        on_error: str = "abort",
        confidence: float | None = None,
        on_chance: str = "refuse",
        schedule: Schedule | None = None,
        directory: Path | str | None = None,
        keep_last: int = 2,
        seed: int = 0,
        storage_dtype: str = "float16",
        storage_entropy: str = "zstd",
        fold: bool = True,
        target: Target | None = None,
        observer: Observer | None = None,
        abandon: Question | None = None,
    ) -> None:
        self.gate = Gate(performance_threshold, tries, on_failure, on_error, rollback_enabled, confidence, on_chance)
        self.schedule = schedule or Schedule()
        self.seed, self.fold = seed, fold
        problems = Problems("pipeline")
        problems.choice("storage_dtype", storage_dtype, STORED_DTYPES)
        problems.choice("storage_entropy", storage_entropy, ENTROPIES)
        problems.flag("fold", fold)
        problems.done()
        self.dtype = STORED_DTYPES[storage_dtype]
        self.entropy = storage_entropy
        self.target = target
        self.observer = observer or Unobserved()
        self.abandon = abandon
        self.logger = logging.getLogger("rcc.pipeline")
        self.state = StateStore(directory, keep_last)
        self.history = History([])
        self.model: Adapter | None = None
        if isinstance(model, Adapter | nn.Module):
            self.model = self._adapter(model)
        elif model is not None:
            stages = _stages_alone(model, stages)
        self.stages: list[Stage] = []
        for stage in stages:
            self.add_stage(stage)

    def add_stage(self, stage: Stage | Mapping[str, Any]) -> Self:
        """Append a stage; a repeated method is labelled 'dare_2', 'dare_3', …. Returns the pipeline.

        Raises:
            UserError: it is no stage and does not describe one, see `stage_of`, or its label is taken.
        """
        stage = stage_of(stage)
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
        """The plan of a run on `model`, whose parameters may be on the meta device."""
        require_stages(self.stages, self.target)
        return plan_run(model, self.stages, self.schedule, self.dtype, self.target)

    def run(
        self,
        model: Adapter | nn.Module,
        validator: Any = None,
        calibration: Iterable[Any] | None = None,
        *,
        training: Iterable[Any] | TrainingData | None = None,
        resume: bool = False,
    ) -> Adapter:
        """Run every step that is not done yet and return the compressed model, changed in place.

        Args:
            model: the dense model; a bare module is given a `ModuleAdapter`, which is what the validator gets.
            validator: measures the model on the selection split: a function of the model that returns a
                `Measurement`, or a number that is better when higher. A loader of batches in this place is both
                calibration and selection: every fourth batch is held out for the gate, which compares the outputs on it
                with the dense model's.
            calibration: batches the stages may learn from, each inputs by name, a tensor x or a pair (x, y), in a list
                or a DataLoader, which is read once; never those the validator uses.
            training: a loader of batches that stages such as recovery learn from, read again in every epoch; or what
                gives them, see `StageContext.training`. Never those the validator uses.
            resume: go on from the state in `directory` instead of refusing it.

        Raises:
            UserError: nothing to compress, calibration data missing, state found without `resume`, or with it one of
                another configuration, calibration or dense model.
            WorkError: a stage failed and `on_error` or `on_failure` is 'abort'.
            AbandonedError: `abandon` said so.
        """
        require_stages(self.stages, self.target)
        adapter = self.model = self._adapter(model)
        learned = None if calibration is None else items_of(calibration, adapter)
        if validator is None or (isinstance(validator, Iterable) and not callable(validator)):
            if learned is None and validator is not None:
                learned, validator = items_of(validator, adapter), None
            if validator is not None or learned is None:
                raise UserError(f"run(model, ...) was given no validator: {WANTED}. Or give one loader for both.")
            learned, judged = held_out(learned)
            validator = OutputCosine(self.state, [item.batch for item in judged])
        return self._run(adapter, validator_of(validator, None), learned, resume, training_of(training, adapter))

    def run_pipeline(self, dataloader: Iterable[Any], validator: Any = None, *, resume: bool = False) -> Adapter:
        """`run` on the model the pipeline was given, with one loader for calibration and selection.

        Where a stage learns from data, every fourth batch is held out and is all that the gate looks at; else all are.

        Args:
            dataloader: as the calibration of `run`.
            validator: as that of `run`, or an object with `compute_metrics(outputs, targets)`, which returns numbers by
                name, the first of them the primary one; None compares outputs with the dense model's.

        Raises:
            UserError: as `run`; the pipeline has no model, or the batches have no targets to compute metrics of.
        """
        adapter = self._known_model("run_pipeline")
        require_stages(self.stages, self.target)
        learned = judged = items_of(dataloader, adapter)
        own_data = callable(validator) and not hasattr(validator, "compute_metrics")
        if not own_data and any(stage.uses_calibration for stage in self.stages):
            learned, judged = held_out(learned)
        if validator is None:
            validator = OutputCosine(self.state, [item.batch for item in judged])
        return self._run(adapter, validator_of(validator, judged), learned, resume)

    def _run(
        self,
        adapter: Adapter,
        validator: Validator,
        learned: Sequence[Item] | None,
        resume: bool,
        training: TrainingData | None = None,
    ) -> Adapter:
        calibration = None if learned is None else [item.batch for item in learned]
        require_data(self.stages, calibration, training)
        for stage in self.stages:
            stage.choose(adapter)
        self.history = History(self.steps())
        execution = Execution(
            adapter, validator, calibration, self.stages, self.schedule, self.target, self.gate, self.history,
            self.state, self.observer, self.seed, self.dtype, self.entropy, self.fold, training,
            self.abandon,
        )  # fmt: skip
        execution.run(resume)
        self.observer.run_finished(self.get_pipeline_summary())
        return adapter

    def save_checkpoint(
        self,
        stage_name: str,
        model_state: Adapter | nn.Module | Mapping[str, Tensor] | None = None,
        metrics: Measurement | Mapping[str, float] | None = None,
    ) -> Path:
        """Write a checkpoint under a name of one's own, beside those that a run makes itself; returns its path.

        `rollback_to_checkpoint` takes it before a step of the same name. The last five are kept.

        Args:
            model_state: the model, or a state dict of its structure as it is now; None: the pipeline's model.
            metrics: what is known of its quality; shown by `validation_metrics` under the name.

        Raises:
            UserError: there is no model yet, or the state dict is not of its structure.
        """
        if isinstance(model_state, Mapping):
            model = with_state(self._known_model("save_checkpoint"), model_state)
        else:
            model = self._known_model("save_checkpoint", model_state)
        if metrics is not None:
            self.history.validated[stage_name] = as_measurement(metrics)
        path = self.state.save_named(stage_name, model, self.history.to_json())
        self.logger.info("checkpoint '%s' saved: %s", stage_name, path)
        return path

    def rollback_to_checkpoint(self, stage_name: str, model: Adapter | nn.Module | None = None) -> bool:
        """Restore structure, weights and history of the last checkpoint of that name: one that `save_checkpoint` wrote,
        else that of the last step of that stage ('initial' is the dense one).

        Later checkpoints are discarded. Returns False when rollback is off or no such checkpoint is kept any more.

        Args:
            model: what is changed, in place; None: the pipeline's model.

        Raises:
            UserError: there is no model yet, or the checkpoint is of another model or cascade.
        """
        adapter = self._known_model("rollback_to_checkpoint", model)
        if not self.gate.rollback:
            return False
        named = self.state.named(stage_name)
        steps = [index for index, name in self.state.names().items() if name == stage_name]
        if named is None and not steps:
            return False
        if not self.history.steps and self.stages:
            self.history.steps = self.steps()
        if named is not None:
            self.history.recall(self.state.load_named(named, adapter))
            self.state.discard_after(len(self.history.records))
        else:
            self.history.recall(self.state.load(steps[-1], adapter))
            self.state.discard_after(steps[-1])
        self.logger.info("rolled back to checkpoint '%s'", stage_name)
        return True

    def validate_stage(
        self, stage_name: str, validator: Any, dataloader: Iterable[Any] | None = None
    ) -> dict[str, float | bool]:
        """Measure the pipeline's model as it is and compare it with the dense one: its metrics by name, 'retention',
        and whether it 'passed' the gate.

        `validation_metrics` shows them under the name. Under 'initial', before a run, it is the dense model.

        Args:
            validator, dataloader: as those of `run_pipeline`; a function of the model needs no loader.

        Raises:
            UserError: there is no model yet, or the dense one was not measured.
        """
        model = self._known_model("validate_stage")
        measure_by = validator_of(validator, None if dataloader is None else items_of(dataloader, model))
        if stage_name == "initial" and self.history.baseline is None:
            self.history.baseline = measure_dense(model, measure_by, self.dtype)
            measurement, items = self.history.baseline.measurement, self.history.baseline.items
        elif self.history.baseline is None:
            raise UserError(
                f"validate_stage('{stage_name}'): the dense model was not measured, so nothing can be compared with it:"
                " call validate_stage('initial', ...) before the first stage, or run() first."
            )
        else:
            measurement, items = measure_items(model, measure_by)
            self.history.validated[stage_name] = measurement
        dense = self.history.dense
        kept = retention(dense.measurement.main, measurement.main)
        interval = retention_interval(dense.measurement.main, dense.items, items, self.gate.level)
        found: dict[str, float | bool] = {metric.name: metric.value for metric in measurement.metrics}
        found |= {"retention": kept, "passed": not self.gate.problem(kept, interval)}
        self.logger.info("'%s' kept %.1f%% of the dense model", stage_name, 100 * kept)
        return found

    def rollback_to_dense(self, model: Adapter | nn.Module | None = None) -> None:
        """Make `model` (None: the pipeline's) the dense model again, from the first checkpoint; the history stays.

        Raises:
            UserError: nothing was run yet.
        """
        adapter = self._known_model("rollback_to_dense", model)
        if self.state.latest() is None:
            raise UserError("rollback_to_dense: nothing was run yet, so no dense model is kept: call run() first.")
        self.state.load(0, adapter)

    def _known_model(self, asking: str, model: Adapter | nn.Module | None = None) -> Adapter:
        if model is None and self.model is None:
            raise UserError(
                f"{asking}: the pipeline has no model yet. Give it one, RCCPipeline(model, stages=[...]), pass it here,"
                " or call run(model, validator) first."
            )
        return self._adapter(model)

    def _adapter(self, model: Adapter | nn.Module | None) -> Adapter:
        """`model` as an adapter; the pipeline's own where it is None, or the module of that."""
        if model is None or (self.model is not None and self.model.module is model):
            assert self.model is not None
            return self.model
        return model if isinstance(model, Adapter) else ModuleAdapter(model)

    # What the pipeline knows, under the specification's names (§2.1).

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
        """The measurements on the selection split: 'initial', then after each step by its name, and what
        `validate_stage` and `save_checkpoint` were given, by theirs."""
        return self.history.measurements()

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The checkpoints that are kept, by their directory's name; each loads as an artifact does."""
        return self.state.paths()

    def analyze_null_space_overlap(self) -> dict[str, Any]:
        """Overlap of each layer's row space before and after every step that found and changed a low-rank part."""
        return self.history.overlap()

    def get_pipeline_summary(self) -> Summary:
        """Everything measured so far, with suggestions that follow from it.

        Raises:
            UserError: nothing was run yet.
        """
        return self.history.summary(self.gate)


def _stages_alone(
    given: Sequence[Stage | Mapping[str, Any]], stages: Sequence[Stage | Mapping[str, Any]]
) -> Sequence[Stage | Mapping[str, Any]]:
    """The stages of a pipeline that was given these in place of a model."""
    if stages or isinstance(given, str) or not isinstance(given, Sequence):
        raise UserError(
            f"RCCPipeline was given {type(given).__name__} as its model; it must be a torch.nn.Module or an adapter, as"
            " in RCCPipeline(model, stages=[...]), or leave it out: RCCPipeline([stage, ...])."
        )
    return given
