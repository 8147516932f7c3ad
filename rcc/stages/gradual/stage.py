"""Prune while training: the share of zeros rises along a cubic, and zeros may come back until it is done.

The method, its sources and what was measured: docs/method/gradual.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.learning.callback import Callback
from rcc.learning.gradual import GradualSparsity
from rcc.learning.held import Held
from rcc.stages.base import StageContext, StageReport, UnitPlan
from rcc.stages.dare.plan import plan_pruning
from rcc.stages.gradual.options import GradualOptions
from rcc.stages.learning import LearningStage


class GradualPruning(LearningStage[GradualOptions]):
    """Trains all values against the dense model, while more and more of those of the chosen layers are held at zero.

    Args: see `ConfiguredStage`; the options are those of `GradualOptions`.
    """

    method: ClassVar[str] = "gradual"
    strength_option: ClassVar[str] = "target_sparsity"
    options_type = GradualOptions
    pruned: ClassVar[bool] = True

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        scope = "layer" if self.options.score == "magnitude" else "global"
        return plan_pruning(units, self.options.target_sparsity, scope, "uniform", itemsize)

    def apply(self, model: Model, context: StageContext) -> StageReport:
        report = super().apply(model, context)
        forms = [unit.read() for unit in model.units() if unit.name in report.touched]
        stored = sum(form.stored for form in forms)
        report.facts["sparsity"] = 1 - sum(form.nonzeros for form in forms) / stored if stored else 0.0
        return report

    def left(self, model: Model, chosen: Sequence[Unit]) -> Sequence[Unit]:
        return ()

    def callbacks(self, holding: Held) -> list[Callback]:
        options = self.options
        return [GradualSparsity(holding, options.target_sparsity, options.score, options.every, options.until)]

    def ready(self, callbacks: Sequence[Callback]) -> bool:
        return all(callback.done for callback in callbacks if isinstance(callback, GradualSparsity))
