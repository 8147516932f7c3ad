"""Define the options of recovery and check them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields
from typing import ClassVar

from rcc.errors import Problems
from rcc.learning.augmentation import AUGMENTATIONS, UNCHANGED
from rcc.learning.distillation import Weights
from rcc.learning.training_options import TrainingOptions
from rcc.stages.options import StageOptions

LAST, ROUND = "last", "round"
TAUGHT = tuple(field.name for field in fields(Weights) if field.name != "task")
"""The losses that compare with a dense model."""


@dataclass(frozen=True)
class RecoveryOptions(StageOptions, TrainingOptions):
    """How long and by what to learn, and from which losses; of those of training with defaults of its own.

    Attributes:
        batch_size: items of a step; None: 64 of a data set, or the batches of a loader as they come.
        augmentation: how images are changed at random: 'none', or one of `AUGMENTATIONS`.
        temperature: that scores are softened by.
        features, logits, interactive, hidden, attention, task: what each loss counts, see
            `rcc.learning.distillation.Weights`.
        when: 'last': after the last round alone; 'round': in every round, before the next one prunes.
    """

    method: ClassVar[str] = "recover"

    epochs: int = 8
    learning_rate: float = 2e-3
    _: KW_ONLY
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
    when: str = LAST

    def check(self, problems: Problems) -> None:
        TrainingOptions.check(self, problems)
        if self.batch_size is not None:
            problems.whole("batch_size", self.batch_size, 1)
        problems.choice("augmentation", self.augmentation, (UNCHANGED, *AUGMENTATIONS))
        problems.positive("temperature", self.temperature)
        self.weights.check(problems)
        problems.choice("when", self.when, (LAST, ROUND))
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
