"""Say how to train: one frozen dataclass of options that checks itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from rcc.errors import Problems
from rcc.learning.optimisers import OPTIMISERS
from rcc.learning.precision import PRECISIONS
from rcc.learning.schedules import SHAPES

ALIASES = {"lr": "learning_rate", "wd": "weight_decay"}
"""The specification's names of options, and ours."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Args:
        epochs: passes over the training data.
        learning_rate: at its peak.
        weight_decay: of matrices; norms, biases and the logit scale do not decay.
        betas: of AdamW, and of what Muon leaves to it.
        warmup: steps up to the peak.
        clip_norm: largest norm of the whole gradient.
        optimiser: adamw, sgd, adafactor, or muon for matrices with AdamW for all else.
        momentum: of SGD and Muon.
        schedule: cosine, linear, constant, one_cycle, or plateau.
        plateau_factor, plateau_epochs: plateau: what the rate is multiplied by after so many epochs without a better
            score.
        accumulate: batches in a step.
        precision: float32, bfloat16 or float16, of forward passes.
        average: decay of the moving average of the weights, which is then what is measured and kept; 0 for none.
        patience: epochs without a better score after which training stops; None never stops it.
        most_skipped: steps of a loss or a gradient that is not finite that are left out before training fails.
        checkpoint_every: steps between checkpoints, beside the one after each epoch; None for none.

    Raises:
        UserError: everything that is out of range or without effect, at once.
    """

    free: ClassVar[tuple[str, ...]] = ("most_skipped", "checkpoint_every")
    """Options that may change when a training is resumed."""

    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 50
    clip_norm: float = 1.0
    optimiser: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    plateau_factor: float = 0.5
    plateau_epochs: int = 2
    accumulate: int = 1
    precision: str = "float32"
    average: float = 0.0
    patience: int | None = None
    most_skipped: int = 10
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        problems = Problems("training")
        self.check(problems)
        problems.done()

    def check(self, problems: Problems) -> None:
        """Note everything that is out of range or without effect."""
        object.__setattr__(self, "betas", tuple(self.betas))  # a config has lists
        problems.whole("epochs", self.epochs, 1)
        problems.positive("learning_rate", self.learning_rate)
        problems.at_least("weight_decay", self.weight_decay, 0)
        problems.whole("warmup", self.warmup, 0)
        problems.positive("clip_norm", self.clip_norm)
        in_range = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        problems.check(in_range, f"betas are {self.betas}; they must be two numbers in [0, 1).")
        problems.choice("optimiser", self.optimiser, OPTIMISERS)
        problems.within("momentum", self.momentum, "[0, 1)")
        problems.choice("schedule", self.schedule, SHAPES)
        problems.within("plateau_factor", self.plateau_factor, "(0, 1)")
        problems.whole("plateau_epochs", self.plateau_epochs, 1)
        problems.whole("accumulate", self.accumulate, 1)
        problems.choice("precision", self.precision, PRECISIONS)
        problems.within("average", self.average, "[0, 1)")
        if self.patience is not None:
            problems.whole("patience", self.patience, 1)
        problems.whole("most_skipped", self.most_skipped, 0)
        if self.checkpoint_every is not None:
            problems.whole("checkpoint_every", self.checkpoint_every, 1)
        self.refuse_unused(
            problems, "betas", self.optimiser in ("adamw", "muon"), "without AdamW: take optimiser=adamw"
        )
        with_momentum = self.optimiser in ("sgd", "muon")
        self.refuse_unused(problems, "momentum", with_momentum, "without SGD or Muon: take optimiser=sgd")
        for name in ("plateau_factor", "plateau_epochs"):
            self.refuse_unused(problems, name, self.schedule == "plateau", "without plateaus: take schedule=plateau")

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """The options in a mapping, by our names or the specification's.

        Raises:
            UserError: an option that there is not, or is given twice; or as the constructor.
        """
        problems = Problems("training")
        known = [*(field.name for field in fields(cls)), *ALIASES]
        given: dict[str, Any] = {}
        for name, value in config.items():
            if problems.choice("option", name, known):
                ours = ALIASES.get(name, name)
                problems.check(ours not in given, f"{ours} and its other name are both given; leave one out.")
                given[ours] = value
        problems.done()
        return cls(**given)

    def refuse_unused(self, problems: Problems, name: str, used: bool, because: str) -> None:
        """Note the option `name` if it was set and is not used."""
        default = next(field.default for field in fields(self) if field.name == name)
        value = getattr(self, name)
        problems.check(
            used or value == default,
            f"{name}={value} has no effect {because}, or leave {name} at its default, {default}.",
        )
