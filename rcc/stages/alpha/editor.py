"""AlphaEdit: closed-form repair of what is stored, learned scales per output channel on top, and task vectors.

The method, its sources and where it departs from the specification: docs/method/alpha.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rcc.calibration.checkpoints import Checkpoint
from rcc.calibration.gradients import channel_gradients
from rcc.calibration.targets import output_distance
from rcc.errors import Problems, UserError
from rcc.layers.model import Model
from rcc.layers.modes import evaluating
from rcc.layers.units import Unit
from rcc.ops.scale import to_scale
from rcc.stages.alpha.edits import ChannelEdits
from rcc.stages.alpha.learned_scales import Item, ScaleLearner, learnable_scales
from rcc.stages.alpha.options import AlphaOptions
from rcc.stages.alpha.repair import Repair
from rcc.stages.base import StageContext, StageReport, UnitPlan, naming, planned
from rcc.stages.by_hand import first_output_loss, labelled_batches

NORM = "a norm's weight is a scale of its own"


class AlphaEditor(ChannelEdits):
    """Repairs what is stored in closed form, then learns a scale for every output channel, and folds it in.

    Args: see `ConfiguredStage`; the options are those of `AlphaOptions`.

    By hand: `AlphaEditor(model, …)`, then the methods on one layer, and `optimize_alphas(dataloader, criterion)`.
    """

    method = "alpha"
    no_strength = "it scales what is there and removes nothing"
    options_type = AlphaOptions

    def hold(self, model: Model) -> None:
        self.model = model
        for unit in self._scalable(model):
            like = next(matrix for _, matrix in unit.read().matrices())
            # Zeros are the identity: the scale is 2 sigmoid(raw).
            self.alpha_parameters[unit.name] = nn.Parameter(like.new_zeros(unit.shape[0]))

    @property
    def interpolation_weights(self) -> dict[str, float]:
        """The share of each task."""
        return self.options.interpolation_weights

    def _has_data(self, context: StageContext) -> bool:
        return super()._has_data(context) and context.dense is not None

    def _scalable(self, model: Model) -> list[Unit]:
        return [unit for unit in self.choose(model)[0] if unit.kind != "norm"]

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        expected = self.options.resolved(calibrated=True)
        ways = [f"repaired ({expected.repair})"] if expected.repair != "none" else []
        ways += ["a scale per output channel, folded"] if expected.epochs else []
        note = f"{', '.join(ways) or 'left as it is'}: as many values as before"
        return [planned(unit, f"left as it is: {NORM}" if unit.kind == "norm" else note) for unit in units]

    def apply(self, model: Model, context: StageContext) -> StageReport:
        self.forget()
        self.model = model
        taken = self.resolved_options(context)
        self._require(taken, context)
        chosen, skipped = self.choose(model)
        report = StageReport(skipped=skipped)
        units = [unit for unit in chosen if unit.kind != "norm"]
        for unit in chosen:
            if unit.kind == "norm":
                report.skip(unit, NORM)
        _require_precision(units)
        if units:
            with evaluating(model.module):
                self._edit(model, units, taken, context, report)
        return report

    def _edit(
        self, model: Model, units: Sequence[Unit], taken: AlphaOptions, context: StageContext, report: StageReport
    ) -> None:
        """Repair, importance, task vectors, learning, folding: in this order, so that alpha learns what was added."""
        report.facts |= {"repair": taken.repair} | self.chosen(taken, context)
        if taken.repair != "none":
            repair = Repair(taken.repair, taken.repair_rounds, taken.damping, taken.null_space_energy)
            report.facts |= repair.apply(model, units, context, report)
        items, criterion = self._criterion(model, context)
        self._score(model, units, items, criterion)
        for unit in units:
            mean = float(self.importance_scores[unit.name].mean())
            report.touched.setdefault(unit.name, {})["importance_mean"] = mean
        if taken.task_checkpoints:
            self._add_tasks(units, context, report)
        if taken.epochs:
            with learnable_scales(model.module, units) as self.alpha_parameters:
                report.facts |= self._learn(items, criterion, taken.epochs, context)
            self._fold(units, report)

    def _require(self, taken: AlphaOptions, context: StageContext) -> None:
        problems = Problems(self.who)
        if taken.needs_calibration:
            problems.check(
                bool(context.calibration),
                "no calibration data to learn from: give batches (`pipeline.run(..., calibration=batches)`, "
                "or a data= with a calibration split), or set repair=none, num_epochs=0 and "
                "importance_metric=magnitude.",
            )
        if taken.repair != "none":
            problems.check(
                context.dense is not None,
                f"repair={taken.repair} fits to the dense model's outputs, and no dense model is given: give "
                "StageContext(dense=...), or take repair=none.",
            )
        if taken.needs_targets and context.calibration:
            found = len(context.targets or ())
            problems.check(
                found == len(context.calibration),
                f"loss=outputs needs the dense model's outputs on each of the {len(context.calibration)} "
                f"calibration batches; there are {found}. `rcc.calibration.targets.dense_outputs` makes them "
                "before anything is compressed; loss=model does without.",
            )
        if taken.task_checkpoints:
            problems.check(context.reference is not None, "task_checkpoints need the dense weights: none are given.")
        problems.done()

    def _criterion(self, model: Model, context: StageContext) -> tuple[Sequence[Any], Callable[[Any], Tensor]]:
        """What to learn from, batch by batch, and the loss of one such item."""
        batches = context.calibration or ()
        if self.options.loss == "model":
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
        if self.options.importance_metric != "magnitude":
            gradients = channel_gradients(model.module, units, items, criterion)
        for unit in units:
            with naming(self, unit):
                self.compute_importance_scores(unit.name, unit.read().dense(), gradients=gradients.get(unit.name))

    def _add_tasks(self, units: Sequence[Unit], context: StageContext, report: StageReport) -> None:
        """Add the interpolated task vector to the non-zeros of S, layer by layer, and keep none of it."""
        assert context.reference is not None
        having = [unit for unit in units if unit.read().sparse is not None]
        tasks = self.options.task_checkpoints or {}
        checkpoints = {task: Checkpoint(path, f"{self.who}, task '{task}'") for task, path in tasks.items()}
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
        self, dataloader: Iterable[Any], criterion: Callable[[Tensor, Tensor], Tensor], num_epochs: int = 10
    ) -> dict[str, Any]:
        """Learn a scale for every output channel of the model that the stage was made with, and fold it in.

        `alpha_parameters` are then the raw parameters that were learned; a second call starts at the identity again.

        Args:
            dataloader: batches of inputs and targets, read once, in one of the forms of `as_batch`.
            criterion: the loss of the model's first output and the targets, a scalar.
            num_epochs: passes over the batches, 1 or more.

        Returns:
            'loss_before', 'loss_after', 'losses' (before, then after each epoch), 'best_epoch' (0: before).

        Raises:
            UserError: the stage has no model, or the batches hold no targets.
            WorkError: a loss is not finite.
        """
        if self.model is None:
            raise UserError(
                f"{self.who}: optimize_alphas learns on a model by hand, and there is none: make the stage with it,"
                " AlphaEditor(model, …). In a cascade num_epochs= learns."
            )
        problems = Problems(self.who)
        problems.whole("num_epochs", num_epochs, 1)
        problems.done()
        model, units = self.model, self._scalable(self.model)
        _require_precision(units)
        batches = labelled_batches(dataloader, model)
        with learnable_scales(model.module, units) as self.alpha_parameters:
            metrics = self._learn(batches, first_output_loss(model, criterion), num_epochs, StageContext())
        self._fold(units, StageReport())
        return metrics

    def _learn(
        self, items: Sequence[Item], criterion: Callable[[Item], Tensor], epochs: int, context: StageContext
    ) -> dict[str, Any]:
        """Learn `alpha_parameters` on `criterion(item)` for each of `items`: see `ScaleLearner.learn`."""
        options = self.options
        learner = ScaleLearner(options.learning_rate, options.l2, options.clip_norm, options.clamp)
        raws = list(self.alpha_parameters.values())
        return learner.learn(raws, items, criterion, epochs, context.generator(), context.progress)

    def _fold(self, units: Sequence[Unit], report: StageReport) -> None:
        """Multiply the scales into S and U; V and the bias stay as they are."""
        for unit in units:
            with naming(self, unit):
                scale = to_scale(self.alpha_parameters[unit.name].detach())
                unit.write(replace(unit.read(), scale=scale).folded())
                report.touched.setdefault(unit.name, {}).update(
                    alpha_min=float(scale.min()), alpha_mean=float(scale.mean()), alpha_max=float(scale.max())
                )


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
