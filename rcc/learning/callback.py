"""Define what is called between the steps of a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rcc.learning.history import Epoch
from rcc.learning.loop import Step

if TYPE_CHECKING:
    from rcc.learning.trainer import CompressionTrainer


class Callback:
    """Something to do between steps. What it keeps that later steps depend on goes into checkpoints."""

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        """Called after every step, before a checkpoint of it."""

    def after_epoch(self, trainer: CompressionTrainer, epoch: Epoch) -> None:
        """Called after every epoch was measured, before its checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


class StepLines(Callback):
    """Says where an epoch stands, at most once in so many seconds, so that a long one is no silence.

    Args:
        say: `(steps of the epoch that are done, steps it has, what)`.
        clock: gives seconds and never goes back.
    """

    def __init__(
        self, say: Callable[[int, int, str], object], seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.seconds, self.clock = say, seconds, clock
        self._since: tuple[float, int] | None = None

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        now, count = self.clock(), trainer.global_step
        if self._since is None:  # the first step of a process is slower than the others
            self._since = now, count
        then, before = self._since
        if now - then < self.seconds:
            return
        self._since = now, count
        epoch = f"epoch {trainer.current_epoch + 1} of {trainer.options.epochs}"
        rate = f"{(count - before) / (now - then):.3g} steps/s"
        done = len(trainer.standing.steps)
        self.say(done, trainer.steps_per_epoch, f"steps of {epoch}, loss {step.loss:.3f}, {rate}")

    def after_epoch(self, trainer: CompressionTrainer, epoch: Epoch) -> None:
        self._since = self.clock(), trainer.global_step
