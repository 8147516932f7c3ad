"""Solve for the strength of one stage at which the planned bytes of all matrices are those due."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rcc.errors import UserError
from rcc.layers.units import Unit
from rcc.models.adapter import Adapter
from rcc.ops.curves import CURVES, share
from rcc.stages.base import Stage, UnitPlan

MEASURED, LAST = "measured", "last"
SPLITS = (MEASURED, LAST)
"""Ways to split a target among the stages that have a strength: by measured sensitivity, or all to the last."""
MOST = 0.99
"""The greatest strength that is tried."""
_GRID = 66
"""Strengths that are tried from 0 to `MOST` before bisection: planned bytes may rise and fall, so that bisection alone
could end at the wrong crossing."""
_HALVINGS = 40
"""Of a grid's interval, 0.015: they leave 1.4e-14, less than the last place of any count."""


def balancing(stages: Sequence[Stage]) -> Stage | None:
    """The last of the stages that has a strength: what a target is balanced with. None where none has one."""
    return next((stage for stage in reversed(stages) if stage.strength is not None), None)


def solved_for(stages: Sequence[Stage], split: str) -> list[Stage]:
    """The stages whose strengths a target decides, in order: all that have one where `split` is 'measured', the
    one that balances where it is 'last'."""
    able = [stage for stage in stages if stage.strength is not None]
    return able if split == MEASURED else able[-1:]


def no_strength(stages: Sequence[Stage]) -> str:
    """The message for a target of a cascade in which `balancing` finds nothing."""
    cascade = "+".join(stage.label or stage.method for stage in stages)
    return (
        f"a target in bytes needs quant with bits=auto at the end, or a stage with a strength, as dare or nullu has, to"
        f" be balanced with; in {cascade} there is neither (dare has none with pattern=, nullu none with"
        " rank_reduction_ratio=null)."
    )


@dataclass(frozen=True)
class Solved:
    """A strength, the planned bytes of the matrices at it, and whether what is due is met by them."""

    strength: float
    planned: float
    met: bool


@dataclass(frozen=True)
class Balance:
    """Planned bytes of all units' matrices, norms left out, by the strength of one stage and of what comes after it
    without being solved for itself.

    `plans` are the units as they are; `chosen` names the units that `stage` and each of `later` take, by label.
    """

    stage: Stage
    later: Sequence[Stage]
    plans: Mapping[str, UnitPlan]
    chosen: Mapping[str, Sequence[str]]
    itemsize: int

    @classmethod
    def of(
        cls,
        model: Adapter,
        stages: Sequence[Stage],
        stage: Stage,
        solved: Sequence[Stage],
        itemsize: int,
        plans: Mapping[str, UnitPlan] | None = None,
    ) -> Balance:
        """Of `stage`, one of the `solved` of `stages`, on the units as they are or as `plans` say they will be."""
        labels = {one.label for one in solved}
        place = next(place for place, one in enumerate(stages) if one is stage)
        # What comes after the stage and is solved for itself is left out: its own turn comes, with what is due then.
        later = [one for one in stages[place + 1 :] if one.label not in labels]
        units = {unit.name: unit for unit in model.units() if _counts(unit)}
        plans = {name: plans[name] if plans else UnitPlan.of(unit) for name, unit in units.items()}
        chosen = {
            one.label: [unit.name for unit in one.choose(model)[0] if unit.name in units] for one in (stage, *later)
        }
        return cls(stage, later, plans, chosen, itemsize)

    def nbytes(self, strength: float | None = None) -> float:
        """Planned bytes at that strength; None is the stage not done at all."""
        state = dict(self.plans)
        stages = self.later if strength is None else (self.stage.at(strength), *self.later)
        for stage in stages:
            units = [state[name] for name in self.chosen[stage.label]]
            state |= {unit.name: unit for unit in (stage.plan(units, self.itemsize) if units else ())}
        return float(sum(unit.nbytes(self.itemsize) for unit in state.values()))

    def solve(self, due: float, expected: Callable[[float], float] = float) -> Solved:
        """The smallest strength at which the bytes `expected` of the planned ones are at most those due, or the one
        just below it where that comes nearer: ranks go in steps.

        Where none is, the strength with the fewest. Plans need not fall with the strength: a rank too small to pay
        leaves a layer as it is.

        Raises:
            UserError: the stage refuses every strength.
        """
        # From soft to hard, and no further than the first that meets it: the smallest such strength harms least.
        grid = [MOST * step / (_GRID - 1) for step in range(_GRID)]
        seen: dict[float, float] = {}
        for high in grid:
            seen[high] = self._planned(high)
            if expected(seen[high]) <= due:
                break
        else:
            least = min(seen, key=lambda strength: (expected(seen[strength]), strength))
            if math.isinf(seen[least]):
                self.stage.at(least)  # raises what the stage has against it
            return Solved(least, seen[least], met=False)
        # The last strength of the grid that missed, and the first that met: between them lies a crossing.
        low = max((strength for strength in seen if strength < high), default=high)
        for _ in range(_HALVINGS if low < high else 0):
            middle = (low + high) / 2
            seen[middle] = self._planned(middle)
            low, high = (middle, high) if expected(seen[middle]) > due else (low, middle)
        # Where sizes come in steps, the step below may overshoot by far and the one above miss by little.
        nearest = min((high, low), key=lambda strength: abs(expected(seen[strength]) - due))
        return Solved(nearest, seen[nearest], met=True)

    def _planned(self, strength: float) -> float:
        """As `nbytes`; infinite at a strength that the stage refuses."""
        try:
            return self.nbytes(strength)
        except UserError:
            return math.inf


def due_bytes(curve: str, number: int, rounds: int, now: float, target: float) -> float:
    """Bytes due after round `number`, from those of now: by equal factors along the curve, so that every round does
    its part of what is left. 'geometric' is time itself: every round keeps the same share."""
    if number == rounds:
        return target
    # Of what is left, not of the whole: a round that fell short, as one that the gate softened, is made up for later.
    done = 0.0 if number == 1 else _progress(curve, number - 2, rounds)
    part = (_progress(curve, number - 1, rounds) - done) / (1 - done)
    return now * math.exp(part * math.log(min(1.0, target / now)))


def due_of_stage(now: float, due: float, shares: Mapping[str, float], label: str) -> float:
    """Bytes due after one stage of a round that is to come down from `now` to `due`: now · (due / now)^p, p the
    stage's part of the shares of those still to come in the round, itself included. The last comes to `due`.

    Args:
        shares: by label, in the order of the stages.
    """
    labels = list(shares)
    to_come = labels[labels.index(label) :]
    if len(to_come) == 1:
        return due
    # Of those still to come, not of all: the first of p, q, r takes p and leaves 1 − p of the logarithm, of which
    # q / (1 − p) is q again. Each takes its share, and what one misses is spread over those after it.
    part = shares[label] / sum(shares[other] for other in to_come)
    return now * min(1.0, due / now) ** part


def _progress(curve: str, index: int, total: int) -> float:
    return share(curve, index, total) if curve in CURVES else (index + 1) / total


def _counts(unit: Unit) -> bool:
    return unit.kind != "norm"  # its weight is stored as a vector, which zeros make no smaller
