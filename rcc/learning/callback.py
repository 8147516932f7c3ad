"""Define what is called between the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
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
