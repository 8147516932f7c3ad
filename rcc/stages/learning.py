"""Train what a model stores against the dense model, its form held: what recovery and gradual pruning share.

The method, its sources and what was measured: docs/method/recover.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch

from rcc.calibration.targets import output_distance
from rcc.errors import Problems, UserError
from rcc.layers.model import Model
from rcc.layers.modes import differentiating, train_only
from rcc.layers.units import Unit
from rcc.learning.augmentation import AUGMENTATIONS, UNCHANGED
from rcc.learning.callback import Callback, StepLines
from rcc.learning.distillation import Distillation, Weights
from rcc.learning.held import Held, held
from rcc.learning.trainer import CompressionTrainer
from rcc.learning.training_options import TrainingOptions
from rcc.stages.base import Epochs, StageContext, StageReport
from rcc.stages.options import ConfiguredStage, StageOptions

FIXED, LEARNED = "fixed", "learned"
TIE = 1e-6
"""What the distance to the dense outputs, in [0, 2], counts beside the score: it tells epochs of one score apart."""
TAUGHT = tuple(field.name for field in fields(Weights) if field.name != "task")
"""The losses that compare with a dense model."""


@dataclass(frozen=True)
class LearningOptions(StageOptions, TrainingOptions):
    """How long and by what to learn, and from which losses; those of training with defaults of its own.

    Attributes:
        steps: of whole numbers: 'fixed', as they are, or 'learned' with the values (LSQ, Esser et al. 2020).
        batch_size: items of a step; None: 64 of a data set, or the batches of a loader as they come.
        augmentation: how images are changed at random: 'none', or one of `AUGMENTATIONS`.
        temperature: that scores are softened by.
        features, logits, interactive, hidden, attention, task: what each loss counts, see
            `rcc.learning.distillation.Weights`.
    """

    epochs: int = 8
    learning_rate: float = 2e-3
    _: KW_ONLY
    steps: str = FIXED
    batch_size: int | None = None
    augmentation: str = UNCHANGED
    optimiser: str = "muon"
    weight_decay: float = 0.0
    warmup: int = 10
    temperature: float = 2.0
    features: float = 1.0
    logits: float = 1.0
    interactive: float = 0.0
    hidden: float = 0.0
    attention: float = 0.0
    task: float = 0.0

    def check(self, problems: Problems) -> None:
        TrainingOptions.check(self, problems)
        problems.choice("steps", self.steps, (FIXED, LEARNED))
        if self.batch_size is not None:
            problems.whole("batch_size", self.batch_size, 1)
        problems.choice("augmentation", self.augmentation, (UNCHANGED, *AUGMENTATIONS))
        problems.positive("temperature", self.temperature)
        self.weights.check(problems)
        if not problems.found:
            problems.check(self.weights.any, "every loss counts 0: give features, logits, or another one a weight.")
            if not self.logits:
                self.unused(problems, ("temperature",), "with logits=0", "weigh logits")

    @property
    def weights(self) -> Weights:
        """What each loss counts."""
        return Weights(**{field.name: getattr(self, field.name) for field in fields(Weights)})

    @property
    def takes_gradients(self) -> bool:
        return True

    @property
    def needs_targets(self) -> bool:
        return True


Options = TypeVar("Options", bound=LearningOptions)


class LearningStage(ConfiguredStage[Options]):
    """Trains the values that are stored so that the outputs come back to the dense model's, and keeps the best epoch.

    Args: see `ConfiguredStage`; the options are those of a subclass of `LearningOptions`.
    """

    needs_training: ClassVar[bool] = True
    pruned: ClassVar[bool] = False
    """Whether zeros are chosen anew on the way."""

    @property
    def uses_calibration(self) -> bool:
        return True

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
            self._held(model, chosen, context.storage) as holding,
        ):
            frozen = {id(parameter) for unit in self.left(model, chosen) for parameter in _parameters(unit)}
            train_only(model.module, [each for each in holding.trained() if id(each) not in frozen])
            report.facts.update(self._train(model, teacher, holding, batches, context))
        report.touched.update((unit.name, {}) for unit in chosen)
        return report

    def _held(self, model: Model, chosen: Sequence[Unit], storage: torch.dtype) -> Held:
        learned = self.options.steps == LEARNED
        holding = held(model, storage=storage, pruned=chosen if self.pruned else (), learn_steps=learned)
        if learned and not any(unit.read().quantised for unit in model.units()):
            holding.release()
            raise UserError(
                f"{self.who}: steps={LEARNED} has no effect: no matrix is of whole numbers here. Put it after quant, or"
                f" leave steps at {FIXED}."
            )
        return holding

    def left(self, model: Model, chosen: Sequence[Unit]) -> Sequence[Unit]:
        """The units whose values stay as they are."""
        names = {unit.name for unit in chosen}
        return [unit for unit in model.units() if unit.name not in names]

    def callbacks(self, holding: Held) -> list[Callback]:
        """What is called between steps, besides what tells of them."""
        return []

    def ready(self, callbacks: Sequence[Callback]) -> bool:
        """Whether the model as it is may be kept."""
        return True

    def _train(
        self, model: Model, teacher: Model | None, holding: Held, batches: Epochs, context: StageContext
    ) -> dict[str, Any]:
        """Train, leave the best epoch, and return what each was like."""
        if context.fits is not None:
            holding.keep_within(context.fits)
        loss = Distillation(model, teacher, self.options.weights, self.options.temperature)
        callbacks = self.callbacks(holding)

        def score() -> float:
            return (0.0 if context.score is None else context.score()) - TIE * distance(model, context)

        trainer = CompressionTrainer(
            model,
            config=self.options,
            loss=loss,
            progress=lambda done, total, what: context.progress(done, total, f"epochs, {what}"),
            callbacks=[*callbacks, StepLines(context.progress)],
            checkpoints=context.scratch,
            resume=True,
            identity={"seed": context.seed, **context.identity},
            as_measured=holding.as_stored,
            ready=lambda: self.ready(callbacks),
            evaluating=True,
        )
        history = trainer.fit(batches, score, batches.steps, entry=not self.pruned)
        return {
            "epochs": [{"loss": epoch.loss, "score": epoch.score} for epoch in history.epochs],
            "best_epoch": history.kept,
            "steps": trainer.global_step,
            "without_effect": loss.without_effect or [],
        }


def _parameters(unit: Unit) -> list[torch.nn.Parameter]:
    return [parameter for module in unit.modules() for parameter in module.parameters()]


def distance(model: Model, context: StageContext) -> float:
    """Mean of 1 - cosine to the dense model's outputs on the calibration data; 0 where there is none."""
    if not context.calibration or not context.targets:
        return 0.0
    with torch.no_grad():
        pairs = zip(context.calibration, context.targets, strict=True)
        found = [float(output_distance(model.outputs(batch), target)) for batch, target in pairs]
    return sum(found) / len(found)
