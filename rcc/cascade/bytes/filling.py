"""Fill a target in bytes by the stage that can round to any size, and say how much is to be pruned before it.

Rounding goes on where strengths end: its steps are continuous, so that it comes out at any size, and spends what is
spare on finer ones. What is open is how many values to prune first: few coarse values, or many that are coarser yet.
After every round the model is rounded to the target, as it would be shipped, and compared with the dense one; once that
grows worse, the rounds to come are left out and the best one is what is filled from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rcc.cascade.bytes.balance import balancing, no_strength
from rcc.cascade.bytes.forecast import Forecast, forecast
from rcc.cascade.records import UNREACHED, Step, StepRecord
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage

COARSE, USUAL = 1.3, 3.2
"""Bits that a value takes which is not zero, besides where it is: of hardly more than its sign, as the last round of
pruning leaves room for, and of the steps that plans count with."""
WORSE = 1.02
"""By what factor the distance to the dense model must grow before the rounds to come are given up."""
OFF = 0.03
"""The share of the bytes due by which a trial may be too large: beyond it the target cannot be met from there."""
REFILLS = 3
"""The most times that a target is filled again."""
GROWTH = (1.08, 1.25, 1.6, 2.5)
"""Of the bytes due: what a gate that refuses the target is asked to allow instead, one after the other."""


def filling(stages: Sequence[Stage]) -> Stage | None:
    """The last of the stages but for those that keep the form, if it can come out at any number of bytes; None else."""
    own = [stage for stage in stages if not stage.keeps_form]
    return own[-1] if own and own[-1].fills else None


def target_problems(stages: Sequence[Stage]) -> list[str]:
    """What keeps these stages from being led to a target in bytes."""
    filler = filling(stages)
    if filler is None:
        return [] if balancing(stages) is not None else [no_strength(stages)]
    return [filler.unfillable] if filler.unfillable else []


class Filling:
    """What is known on the way to a target that `stage` fills.

    Attributes:
        weighed: the distance to the dense model's outputs of the model rounded to the target, by the number of steps
            done before.
        pruned_to: bytes that the artifact is to come to by pruning, at the steps that plans count with; None until it
            is known.
        correction: bytes by which the stage is to be asked for more than was planned, from what it came out at.
        filled: bytes of the artifact that it came out at last; 0 before.
        saved: bytes by which the steps after it made that smaller, and are expected to.
        repeats: how often it was done again.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.filled, self.saved = 0, 0
        self.weighed: dict[int, float] = {}
        self.pruned_to: float | None = None
        self.correction = 0
        self.repeats = 0

    def forecast(self, model: Adapter, dtype: torch.dtype, entropy: str) -> tuple[Forecast, int, int]:
        """What the artifact would take if the stage rounded all values alike; of that, the bytes of the whole numbers,
        and how many values these are."""
        chosen = [unit.name for unit in self.stage.choose(model)[0]]
        made = forecast(model, [(self.stage, chosen)], dtype, entropy)
        whole, values = made.whole_of(chosen)
        return made, whole, values

    def due(self, made: Forecast, whole: int, fixed: int, target: int) -> int:
        """Bytes that the whole numbers are to take, for the artifact to come out at `target`."""
        return max(1, whole + target + self.saved - made.matrices - fixed + self.correction)

    def no_help(self, record: StepRecord, finest: bool) -> str:
        """The reason for which filling again would come no nearer; empty where it may.

        Args:
            record: of the step that filled.
            finest: whether it came out smaller than asked.
        """
        tried = record.attempts if record.outcome == "skipped" else record.attempts[:-1]
        refused = [attempt for attempt in tried if attempt.problem]
        if refused:
            return f"the gate did not allow it: at the target {record.step.name} {refused[0].problem}"
        if self.repeats < REFILLS:
            return ""
        return f"{self.stage.who} {'has no finer steps' if finest else 'has no coarser steps'}"

    def learn(self, target: int, reached: int, recovered: bool) -> None:
        """Note what the artifact came out at, before it is filled again: right after it was filled, what the steps to
        come are expected to save taken off, or after them."""
        self.repeats += 1
        if recovered:
            self.saved = self.filled - reached
        else:
            self.correction += target - reached

    @property
    def best(self) -> int:
        """The number of steps after which the model came out nearest to the dense one, the fewest of equal ones."""
        return min(self.weighed, key=lambda place: (self.weighed[place], place))

    def is_worse(self, place: int) -> bool:
        """Whether what was found there is worse than what was found before it."""
        return self.weighed[place] > WORSE * self.weighed[self.best]

    def to_json(self) -> dict[str, Any]:
        return {
            "weighed": list(self.weighed.items()),
            "pruned_to": self.pruned_to,
            "correction": self.correction,
            "filled": self.filled,
            "saved": self.saved,
            "repeats": self.repeats,
        }

    def recall(self, data: Mapping[str, Any]) -> None:
        self.weighed = {int(place): float(distance) for place, distance in data["weighed"]}
        self.pruned_to, self.correction, self.repeats = data["pruned_to"], data["correction"], data["repeats"]
        self.filled, self.saved = data["filled"], data["saved"]


def share_kept(bits: float) -> float:
    """The share k of values that `bits` a value pay for at their coarsest: H(k) + k · `COARSE` = bits, H being the
    entropy of where they are; 1 where all are paid for."""
    if bits >= _bits_of(1.0, COARSE):
        return 1.0
    low, high = 0.0, 0.5
    if bits > _bits_of(high, COARSE):
        return 1.0  # beyond a half the zeros hardly save more than they cost to tell apart
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _bits_of(middle, COARSE) < bits else (low, middle)
    return high


def share_to_prune_to(bits: float) -> float:
    """The share of bytes at the usual steps once only those values are left that `bits` a value pay for at the
    coarsest; 1 where all are paid for."""
    return min(1.0, _bits_of(share_kept(bits), USUAL) / USUAL)


def _bits_of(kept: float, each: float) -> float:
    where = -sum(share * math.log2(share) for share in (kept, 1 - kept) if share > 0)
    return where + kept * each


def starts_round(steps: Sequence[Step], place: int) -> bool:
    """Whether the step after `place` steps is the first of its round."""
    return place == 0 or steps[place].round != steps[place - 1].round


def why_left_out(weighed: Mapping[int, float], best: int) -> str:
    """Why steps are left out, from what was found after how many."""
    if weighed[best] == 0:
        return "the target leaves bits enough for every value: pruning would save no more than rounding does"
    after = [distance for place, distance in weighed.items() if place > best]
    if not after or min(after) >= UNREACHED:
        return "rounding could not reach the target with it"
    return f"rounded to the target, the outputs err by {min(after):.3g} with it and by {weighed[best]:.3g} without it"
