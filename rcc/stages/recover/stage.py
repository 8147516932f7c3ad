"""Recover what compression lost: train what is stored against the dense model, with zeros, steps and ranks held.

The method, its sources and what was measured: docs/method/recover.md.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from rcc.stages.base import UnitPlan, planned
from rcc.stages.learning import TAUGHT, LearningStage
from rcc.stages.recover.options import LAST, RecoveryOptions


class Recovery(LearningStage[RecoveryOptions]):
    """Trains the values that are stored so that the outputs come back to the dense model's, and keeps the best epoch.

    Args: see `ConfiguredStage`; the options are those of `RecoveryOptions`.
    """

    method: ClassVar[str] = "recover"
    no_strength: ClassVar[str] = "it gives values back and removes nothing"
    options_type = RecoveryOptions
    more_roles: ClassVar[Sequence[str]] = ("embedding", "norm")
    keeps_form: ClassVar[bool] = True

    @property
    def once(self) -> bool:
        return self.options.when == LAST

    def by_task(self) -> Self:
        """The same stage, to learn from the model's own loss alone, without a dense model."""
        other = copy.copy(self)
        weights: dict[str, Any] = dict.fromkeys(TAUGHT, 0.0) | {"task": self.options.task or 1.0}
        other._configure(replace(self.options, **weights))
        return other

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        return [planned(unit, f"trained for {self.options.epochs} epochs") for unit in units]
