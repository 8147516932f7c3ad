"""Recover what compression lost: train what is stored against the dense model, with zeros, steps and ranks held.

The method, its sources and what was measured: docs/method/recover.md.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch

from rcc.calibration.targets import output_distance
from rcc.errors import UserError
from rcc.layers.model import Model
from rcc.layers.modes import differentiating, train_only
from rcc.learning.callback import StepLines
from rcc.learning.distillation import Distillation
from rcc.learning.held import Held, held
from rcc.learning.trainer import CompressionTrainer
from rcc.stages.base import Epochs, StageContext, StageReport, UnitPlan, planned
from rcc.stages.options import ConfiguredStage
from rcc.stages.recover.options import LAST, TAUGHT, RecoveryOptions

TIE = 1e-6
"""What the distance to the dense outputs, in [0, 2], counts beside the score: it tells epochs of one score apart."""


class Recovery(ConfiguredStage[RecoveryOptions]):
    """Trains the values that are stored so that the outputs come back to the dense model's, and keeps the best epoch.

    Args: see `ConfiguredStage`; the options are those of `RecoveryOptions`.
    """

    method: ClassVar[str] = "recover"
    no_strength: ClassVar[str] = "it gives values back and removes nothing"
    options_type = RecoveryOptions
    more_roles: ClassVar[Sequence[str]] = ("embedding", "norm")
    keeps_form: ClassVar[bool] = True
    needs_training: ClassVar[bool] = True

    @property
    def once(self) -> bool:
        return bool(self.options.when == LAST)

    @property
    def uses_calibration(self) -> bool:
        return True

    def by_task(self) -> Self:
        """The same stage, to learn from the model's own loss alone, without a dense model."""
        other = copy.copy(self)
        weights: dict[str, Any] = dict.fromkeys(TAUGHT, 0.0) | {"task": self.options.task or 1.0}
        other._configure(replace(self.options, **weights))
        return other

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        return [planned(unit, f"trained for {self.options.epochs} epochs") for unit in units]

    def apply(self, model: Model, context: StageContext) -> StageReport:
        """Raises:
        UserError: there is no training data, or the losses have no effect on this model.
        WorkError: the loss is not finite, or the disk is full.
        """
        if context.training is None:
            raise UserError(
                f"{self.who} learns from training data, and there is none: take a data= with a training split, or give"
                " pipeline.run(..., training=loader)."
            )
        report = StageReport()
        chosen, report.skipped = self.choose(model)
        batches = context.training(self.options.batch_size, self.options.augmentation, context.seed)
        taught = self.options.weights.taught
        with (
            differentiating(model.module),
            context.dense_beside(model) if taught else nullcontext() as teacher,
            held(model, storage=context.storage) as holding,
        ):
            names = {unit.name for unit in chosen}
            left = [module for unit in model.units() if unit.name not in names for module in unit.modules()]
            frozen = {id(parameter) for module in left for parameter in module.parameters()}
            train_only(model.module, [each for each in holding.trained() if id(each) not in frozen])
            report.facts.update(self._train(model, teacher, holding, batches, context))
        report.touched.update((unit.name, {}) for unit in chosen)
        return report

    def _train(
        self, model: Model, teacher: Model | None, holding: Held, batches: Epochs, context: StageContext
    ) -> dict[str, Any]:
        """Train, leave the best epoch, and return what each was like."""
        if context.fits is not None:
            holding.keep_within(context.fits)
        loss = Distillation(model, teacher, self.options.weights, self.options.temperature)

        def score() -> float:
            return (0.0 if context.score is None else context.score()) - TIE * distance(model, context)

        trainer = CompressionTrainer(
            model,
            config=self.options,
            loss=loss,
            progress=lambda done, total, what: context.progress(done, total, f"epochs, {what}"),
            callbacks=[StepLines(context.progress)],
            checkpoints=context.scratch,
            resume=True,
            identity={"seed": context.seed, **context.identity},
            as_measured=holding.as_stored,
            evaluating=True,
        )
        history = trainer.fit(batches, score, batches.steps, entry=True)
        return {
            "epochs": [{"loss": epoch.loss, "score": epoch.score} for epoch in history.epochs],
            "best_epoch": history.kept,
            "steps": trainer.global_step,
            "without_effect": loss.without_effect or [],
        }


def distance(model: Model, context: StageContext) -> float:
    """Mean of 1 - cosine to the dense model's outputs on the calibration data; 0 where there is none."""
    if not context.calibration or not context.targets:
        return 0.0
    with torch.no_grad():
        pairs = zip(context.calibration, context.targets, strict=True)
        found = [float(output_distance(model.outputs(batch), target)) for batch, target in pairs]
    return sum(found) / len(found)
