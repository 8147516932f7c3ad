"""Set learning rates step after step: a linear warm-up, times a constant, cosine, line, single cycle or plateaus."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from rcc.errors import UserError

START, END = 1 / 25, 1 / 25e4
"""Of one cycle: its first and last factor of the peak, those of torch's OneCycleLR."""


def constant(step: int, total: int, warmup: int) -> float:
    """Linear over `warmup` steps, then 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Factor of the peak learning rate at optimiser step `step` (from 0): linear over `warmup` steps, times
    half a cosine that falls from 1 at the first step towards 0 after the last."""
    return constant(step, total, warmup) * 0.5 * (1 + math.cos(math.pi * min(step, total) / total))


def linear(step: int, total: int, warmup: int) -> float:
    """Linear over `warmup` steps, times a line from 1 at the first step to 0 after the last."""
    return constant(step, total, warmup) * (1 - min(step, total) / total)


def one_cycle(step: int, total: int, warmup: int) -> float:
    """Half a cosine from 1/25 up to 1 over `warmup` steps, half a cosine down to 1/250,000 at the last.

    Source: Smith and Topin (2017), arXiv:1708.07120, with the constants of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    top, last = warmup - 1, max(total - 1, warmup)
    if step <= top:
        return _between(START, 1.0, step / top if top else 1.0)
    return _between(1.0, END, min(1.0, (step - top) / (last - top)))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


SHAPES = {
    "constant": constant,
    "cosine": warmup_cosine,
    "linear": linear,
    "one_cycle": one_cycle,
    "plateau": constant,
}


class LearningRates:
    """Sets the learning rate of each group of an optimiser to its own peak times a factor of the step.

    With 'plateau' the factor is also multiplied by `factor` whenever `patience` epochs in a row brought no better
    score.

    Args:
        total: steps of the whole training.
    """

    def __init__(
        self, optimiser: Optimizer, shape: str, total: int, warmup: int, factor: float = 0.5, patience: int = 2
    ) -> None:
        self.optimiser, self.shape, self.total, self.warmup = optimiser, shape, total, warmup
        self.factor, self.patience = factor, patience
        self.peaks = [float(group["lr"]) for group in optimiser.param_groups]
        self.taken, self.waited, self.best = 0, 0, -math.inf
        self.level = 1.0
        self._set()

    def step(self) -> None:
        """Go on to the rates of the next step."""
        self.taken += 1
        self._set()

    def after_epoch(self, score: float) -> None:
        """Lower a plateau's level where it is due. Higher scores are better."""
        if self.shape != "plateau":
            return
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.level, self.waited = self.level * self.factor, 0
            self._set()

    def state_dict(self) -> dict[str, Any]:
        """What decides the rates from here on, as plain data."""
        return {"total": self.total, "taken": self.taken, "waited": self.waited, "best": self.best, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            UserError: it is of a training of another length.
        """
        if state["total"] != self.total:
            raise UserError(
                f"the checkpoint is of another training: its steps were {state['total']} in all and are now"
                f" {self.total}. Give as many batches of as many items as then."
            )
        self.taken, self.waited = int(state["taken"]), int(state["waited"])
        self.best, self.level = float(state["best"]), float(state["level"])
        self._set()

    def _set(self) -> None:
        factor = SHAPES[self.shape](self.taken, self.total, self.warmup) * self.level
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
