"""Train a model on its own loss: AdamW, linear warm-up and cosine decay, clipped gradients, the best epoch kept."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from rcc.errors import Problems
from rcc.layers.model import Batch
from rcc.learning.loop import Best, Loop
from rcc.models.adapter import Adapter

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. `learning_rate` is the peak; `warmup` and the decay count optimiser steps."""

    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 50
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        problems = Problems("training")
        problems.whole("epochs", self.epochs, 1)
        problems.positive("learning_rate", self.learning_rate)
        problems.at_least("weight_decay", self.weight_decay, 0)
        problems.whole("warmup", self.warmup, 0)
        problems.positive("clip_norm", self.clip_norm)
        in_range = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        problems.check(in_range, f"betas are {self.betas}; they must be two numbers in [0, 1).")
        problems.done()


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data: mean loss of its batches, and the score on the selection split."""

    number: int
    loss: float
    score: float


@dataclass
class History:
    """Every epoch, and the number of the one whose weights were kept."""

    epochs: list[Epoch] = field(default_factory=list)
    kept: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Trainer:
    """Trains an adapter's module on its own loss.

    Args:
        options: see `TrainingOptions`.
        score: called after each epoch, higher is better; the weights of the best epoch (the later of equals)
            are what the module holds in the end.
        progress: `(epochs done, epochs in all, what)`.
    """

    def __init__(
        self,
        options: TrainingOptions,
        score: Callable[[], float],
        progress: Progress = lambda done, total, what: None,
    ) -> None:
        self.options, self.score, self.progress = options, score, progress

    def fit(self, adapter: Adapter, batches: Callable[[int], Iterable[Batch]], steps_per_epoch: int) -> History:
        """Train in place; `batches(epoch)` yields `steps_per_epoch` batches. The module ends in evaluation
        mode.

        Raises:
            WorkError: the loss became NaN or infinite, or an epoch has no batches.
        """
        options, module = self.options, adapter.module
        optimiser = torch.optim.AdamW(
            decay_groups(module, options.weight_decay), lr=options.learning_rate, betas=options.betas
        )
        total = options.epochs * steps_per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmup_cosine(step, total, options.warmup))
        history, best = History(), Best(module.state_dict, operator.ge)

        def measure(number: int, loss: float) -> None:
            module.eval()
            epoch = Epoch(number, loss, self.score())
            history.epochs.append(epoch)
            best.offer(number, epoch.score)
            self.progress(number, options.epochs, f"loss {epoch.loss:.3f}, selection {epoch.score:.4f}")
            module.train()

        def clip() -> None:
            nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm)

        module.train()
        Loop(adapter.loss, optimiser, schedule, after_backward=(clip,)).fit(batches, options.epochs, measure)
        module.eval()
        best.restore()
        assert best.epoch is not None  # there is at least one epoch
        history.kept = best.epoch
        return history


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Factor of the peak learning rate at optimiser step `step` (from 0): linear over `warmup` steps, times
    half a cosine that falls from 1 at the first step towards 0 after the last."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * min(step, total) / total))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: matrices decay; vectors and scalars (norms, biases, the logit scale) do
    not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
