"""AlphaEdit: closed-form repair of what is stored, learned scales per output channel on top, and task vectors.

The method, its sources and where it departs from the specification: docs/method/alpha.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from rcc.calibration.checkpoints import Checkpoint
from rcc.calibration.gradients import channel_gradients
from rcc.calibration.targets import output_distance
from rcc.errors import Problems, UserError
from rcc.layers.model import Model
from rcc.layers.modes import evaluating
from rcc.layers.selection import Selection
from rcc.layers.units import Unit
from rcc.ops.null_space import ENERGY
from rcc.ops.quadratic import DAMPING
from rcc.ops.scale import IMPORTANCE, to_scale
from rcc.stages.alpha.edits import ChannelEdits, check_interpolation
from rcc.stages.alpha.learned_scales import Item, ScaleLearner, learnable_scales
from rcc.stages.alpha.repair import Repair
from rcc.stages.base import Stage, StageContext, StageReport, UnitPlan, naming, planned
from rcc.stages.dare.options import is_number

LOSSES = ("outputs", "model")
NORM = "a norm's weight is a scale of its own"


class AlphaEditor(ChannelEdits, Stage):
    """Repairs what is stored in closed form, then learns a scale for every output channel, and folds it in.

    Args:
        learning_rate: Adam's step on the raw parameters; a scale is 2 sigmoid(raw), and raw starts at 0.
        num_epochs: passes over the calibration batches; 0 learns nothing.
        importance_metric: 'gradient', 'magnitude', 'taylor' or 'fisher': the importance of a channel.
        loss: 'outputs' (1 - cosine to the dense model's outputs) or 'model' (the model's own loss).
        l2: weight of the pull towards the identity.
        clip_norm: largest norm of all gradients together.
        clamp: largest |raw|.
        task_checkpoints: checkpoints of fine-tuned models of the same architecture, by task.
        task_weights: their shares, which must sum to 1; equal ones by default.
        task_strength: how much of the interpolated task vector is added.
        weight_by_importance: multiply each channel of a task vector by its importance, in [0, 1].
        repair: towards the dense model's outputs, layer after layer: 'none', 'scales' (one factor a row and the
            bias), 'least_squares' (the surviving values and the bias), 'null_space' (the surviving values, where
            inputs that are reproduced well do not see it).
        repair_rounds: how often S, V and U take turns in 'least_squares'.
        damping: λ over the mean of diag H, above 0: how strongly values are held near those there are.
        null_space_energy: share of the preserved inputs that the null space may hold, in [0, 1).
        include, exclude, roles, towers: which units, see `Selection`.

    Raises:
        UserError: every option that is out of range, at once.
    """

    method = "alpha"

    def __init__(
        self,
        learning_rate: float = 0.03,
        num_epochs: int = 6,
        importance_metric: str = "magnitude",
        loss: str = "outputs",
        l2: float = 0.001,
        clip_norm: float = 1.0,
        clamp: float = 3.0,
        task_checkpoints: Mapping[str, str | Path] | None = None,
        task_weights: Mapping[str, float] | None = None,
        task_strength: float = 1.0,
        weight_by_importance: bool = False,
        repair: str = "none",
        repair_rounds: int = 1,
        damping: float = DAMPING,
        null_space_energy: float = ENERGY,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        towers: Sequence[str] | None = None,
    ) -> None:
        tasks = dict(task_checkpoints or {})
        shares = dict(task_weights) if task_weights is not None else {task: 1 / len(tasks) for task in tasks}
        problems = Problems("stage 'alpha'")
        self.repair = Repair(repair, repair_rounds, damping, null_space_energy)
        self.repair.check(problems)
        whole = is_number(num_epochs) and isinstance(num_epochs, int) and num_epochs >= 0
        problems.check(whole, f"num_epochs is {num_epochs}; it must be a whole number from 0 up.")
        problems.choice("importance_metric", importance_metric, IMPORTANCE)
        problems.choice("loss", loss, LOSSES)
        for name, value in (("learning_rate", learning_rate), ("clip_norm", clip_norm), ("clamp", clamp)):
            problems.check(is_number(value) and 0 < value < math.inf, f"{name} is {value}; it must be above 0.")
        problems.check(is_number(l2) and 0 <= l2 < math.inf, f"l2 is {l2}; it must be 0 or more.")
        finite = is_number(task_strength) and math.isfinite(task_strength)
        problems.check(finite, f"task_strength is {task_strength}; it must be a number.")
        for task, path in tasks.items():
            problems.check(Path(path).exists(), f"task_checkpoints: '{task}' is at {path}, which is not there.")
        if tasks or shares:
            try:
                check_interpolation(shares, tasks)
            except UserError as error:
                problems.check(False, str(error))
        problems.done()
        super().__init__(importance_metric, weight_by_importance, task_strength)
        self.learning_rate = learning_rate
        self.num_epochs = num_epochs
        self.loss = loss
        self.l2 = l2
        self.clip_norm = clip_norm
        self.clamp = clamp
        self.task_checkpoints = tasks
        self.interpolation_weights = shares
        learns = num_epochs > 0 or importance_metric != "magnitude"
        self.needs_calibration = learns or repair != "none"
        self.needs_targets = learns and loss == "outputs"
        self.selection = Selection(include, exclude, roles, towers)

    @property
    def strength(self) -> None:
        return None

    def at(self, strength: float) -> Self:
        raise UserError("stage 'alpha' has no strength: it scales what is there and removes nothing.")

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        ways = [f"repaired ({self.repair.way})"] if self.repair.way != "none" else []
        ways += ["a scale per output channel, folded"] if self.num_epochs else []
        note = f"{', '.join(ways) or 'left as it is'}: as many values as before"
        return [planned(unit, f"left as it is: {NORM}" if unit.kind == "norm" else note) for unit in units]

    def apply(self, model: Model, context: StageContext) -> StageReport:
        self.forget()
        self._require(context)
        chosen, skipped = self.choose(model)
        report = StageReport(skipped=skipped)
        units = [unit for unit in chosen if unit.kind != "norm"]
        for unit in chosen:
            if unit.kind == "norm":
                report.skip(unit, NORM)
        _require_precision(units)
        if units:
            with evaluating(model.module):
                self._edit(model, units, context, report)
        return report

    def _edit(self, model: Model, units: Sequence[Unit], context: StageContext, report: StageReport) -> None:
        """Repair, importance, task vectors, learning, folding: in this order, so that alpha learns what was added."""
        if self.repair.way != "none":
            report.facts |= self.repair.apply(model, units, context, report)
        items, criterion = self._criterion(model, context)
        self._score(model, units, items, criterion)
        for unit in units:
            mean = float(self.importance_scores[unit.name].mean())
            report.touched.setdefault(unit.name, {})["importance_mean"] = mean
        if self.task_checkpoints:
            self._add_tasks(units, context, report)
        if self.num_epochs:
            with learnable_scales(model.module, units) as self.alpha_parameters:
                report.facts |= self.optimize_alphas(
                    items, criterion, generator=context.generator(), progress=context.progress
                )
            self._fold(units, report)

    def _require(self, context: StageContext) -> None:
        problems = Problems(self.who)
        if self.needs_calibration:
            problems.check(
                bool(context.calibration),
                "no calibration data to learn from: give batches (`pipeline.run(..., calibration=batches)`, "
                "or a data= with a calibration split), or set repair=none, num_epochs=0 and "
                "importance_metric=magnitude.",
            )
        if self.repair.way != "none":
            problems.check(
                context.dense is not None,
                f"repair={self.repair.way} fits to the dense model's outputs, and no dense model is given: give "
                "StageContext(dense=...), or take repair=none.",
            )
        if self.needs_targets and context.calibration:
            found = len(context.targets or ())
            problems.check(
                found == len(context.calibration),
                f"loss=outputs needs the dense model's outputs on each of the {len(context.calibration)} "
                f"calibration batches; there are {found}. `rcc.calibration.targets.dense_outputs` makes them "
                "before anything is compressed; loss=model does without.",
            )
        if self.task_checkpoints:
            problems.check(context.reference is not None, "task_checkpoints need the dense weights: none are given.")
        problems.done()

    def _criterion(self, model: Model, context: StageContext) -> tuple[Sequence[Any], Callable[[Any], Tensor]]:
        """What to learn from, batch by batch, and the loss of one such item."""
        batches = context.calibration or ()
        if self.loss == "model":
            return batches, model.loss
        pairs = list(zip(batches, context.targets or (), strict=False))
        return pairs, lambda pair: output_distance(model.outputs(pair[0]), pair[1])

    def _score(
        self,
        model: Model,
        units: Sequence[Unit],
        items: Sequence[Any],
        criterion: Callable[[Any], Tensor],
    ) -> None:
        gradients = {}
        if self.importance_metric != "magnitude":
            gradients = channel_gradients(model.module, units, items, criterion)
        for unit in units:
            with naming(self, unit):
                self.compute_importance_scores(unit.name, unit.read().dense(), gradients=gradients.get(unit.name))

    def _add_tasks(self, units: Sequence[Unit], context: StageContext, report: StageReport) -> None:
        """Add the interpolated task vector to the non-zeros of S, layer by layer, and keep none of it."""
        assert context.reference is not None
        having = [unit for unit in units if unit.read().sparse is not None]
        checkpoints = {
            task: Checkpoint(path, f"{self.who}, task '{task}'") for task, path in self.task_checkpoints.items()
        }
        for checkpoint in checkpoints.values():
            checkpoint.require(having)
        for unit in having:
            with naming(self, unit):
                reference = context.reference(unit.name)
                for task, checkpoint in checkpoints.items():
                    self.extract_task_vector(unit.name, reference, checkpoint.weight(unit), task)
                self.interpolate_task_vectors(self.interpolation_weights)
                form = unit.read().folded()
                assert form.sparse is not None
                moved = self.apply_alpha_scaling(unit.name, form.sparse)
                report.touched[unit.name]["task_change"] = _relative_change(form.sparse, moved)
                unit.write(replace(form, sparse=moved))
                self.task_vectors.clear()
                self.interpolated.clear()
        names = {unit.name for unit in having}
        report.facts["task_vector_not_added"] = [unit.name for unit in units if unit.name not in names]

    def optimize_alphas(
        self,
        dataloader: Sequence[Item],
        criterion: Callable[[Item], Tensor],
        num_epochs: int | None = None,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> dict[str, Any]:
        """Learn `alpha_parameters` on `criterion(item)` for each of `dataloader`: see `ScaleLearner.learn`."""
        learner = ScaleLearner(self.learning_rate, self.l2, self.clip_norm, self.clamp)
        epochs = self.num_epochs if num_epochs is None else num_epochs
        raws = list(self.alpha_parameters.values())
        return learner.learn(raws, dataloader, criterion, epochs, generator, progress)

    def _fold(self, units: Sequence[Unit], report: StageReport) -> None:
        """Multiply the scales into S and U; V and the bias stay as they are."""
        for unit in units:
            with naming(self, unit):
                scale = to_scale(self.alpha_parameters[unit.name].detach())
                unit.write(replace(unit.read(), scale=scale).folded())
                report.touched[unit.name] |= {
                    "alpha_min": float(scale.min()),
                    "alpha_mean": float(scale.mean()),
                    "alpha_max": float(scale.max()),
                }


def _require_precision(units: Sequence[Unit]) -> None:
    problems = Problems("stage 'alpha'")
    for unit in units:
        dtype = next(matrix.dtype for _, matrix in unit.read().matrices())
        enough = torch.finfo(dtype).bits >= 32
        problems.check(enough, f"{unit.name} holds {dtype}; a scale near 1 is learned in float32 or more.")
    problems.done()


def _relative_change(before: Tensor, after: Tensor) -> float:
    """‖after - before‖ / ‖before‖ (Frobenius); 0 where nothing was and nothing is."""
    size = float(torch.linalg.vector_norm(before))
    return float(torch.linalg.vector_norm(after - before)) / size if size else 0.0
