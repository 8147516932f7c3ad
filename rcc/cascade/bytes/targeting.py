"""What a pipeline does for the sake of a target in bytes: sharing the way out, and doing the last round again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from rcc.cascade.attempt import refuse_non_finite
from rcc.cascade.bytes.budget import Budget, Target
from rcc.cascade.bytes.shares import measured_shares
from rcc.cascade.history import History
from rcc.cascade.records import Step
from rcc.cascade.schedule import Schedule
from rcc.models.adapter import Adapter
from rcc.stages.base import Batch, Stage, StageContext


class Targeting:
    """The part of `RCCPipeline` that knows a `Budget`."""

    history: History
    schedule: Schedule
    stages: list[Stage]
    target: Target | None
    dtype: torch.dtype
    entropy: str
    rollback_to_dense: Callable[[Adapter], None]
    _budget: Budget | None
    _calibration: Sequence[Batch] | None
    _context: Callable[[Step, int, Adapter], StageContext]
    _return_to: Callable[[int, Adapter], None]
    _tell: Callable[..., Any]

    def _open_budget(self, model: Adapter) -> Budget | None:
        if self.target is None:
            return None
        baseline = self.history.dense.measurement
        budget = Budget(self.target, self.stages, self.schedule.curve, self.dtype, self.entropy, baseline)
        if self.history.budget is not None:
            budget.recall(self.history.budget)
        elif not self.history.records:
            budget.check(model)
            if len(budget.solved) > 1 and self._calibration:
                self._share_out(budget, model)
        return budget

    def _share_out(self, budget: Budget, model: Adapter) -> None:
        """Find each stage's share of the way to the target by applying it alone to the dense model."""
        step = Step(index=0, round=1, rounds=self.schedule.rounds, label="", method="", strength=None)

        def apply(stage: Stage) -> None:
            strength = budget.alone(stage, step.rounds, model)
            stage.at(strength).apply(model, self._context(step, 1, model))
            refuse_non_finite(model, f"{stage.who}, tried alone at strength {strength:.3f}, left")

        assert self._calibration is not None
        restore = partial(self.rollback_to_dense, model)
        budget.shares = measured_shares(model, budget.solved, self._calibration, apply, restore)
        self._tell("target_shared", budget.shares)

    def _done(self, model: Adapter) -> bool:
        """Whether every step is done and the target, if there is one, met or missed for good; else goes back to
        before the step whose strength the target decides, in the last round."""
        records, steps = self.history.records, self.history.steps
        if len(records) < len(steps) or self._budget is None:
            return len(records) == len(steps)
        labels = [step.label for step in steps]
        before = len(labels) - 1 - labels[::-1].index(self._budget.stage.label)
        again, self.history.target = self._budget.settle(model, records[before:])
        if again:
            self._tell("round_repeated", steps[before:], self.history.target)
            self._return_to(before, model)
        return not again
