"""A target in bytes: how hard the cascade must press, round after round, for the artifact to come out at it.

One stage, the last that has a strength, balances: its strength is solved for in every round. What the artifact will
take is planned from counts (see `Stage.plan`) and scaled by how far plans are off, which is measured: on the model
as it is, rounded as a later stage would round it, and after the last round on the artifact itself. Where that misses
the target, the last round is done again with what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rcc.artifact.contents import named_tensors, steps_of
from rcc.artifact.packing import pack
from rcc.cascade.records import Step
from rcc.errors import Problems, UserError
from rcc.layers.form import MATRICES, STEPS
from rcc.models.adapter import Adapter
from rcc.ops.curves import CURVES, share
from rcc.stages.base import Stage, UnitPlan

TOLERANCE = 0.01
"""How far from the target, as a share of it, a run may end."""
REPEATS = 4
"""How often the last round is done again at most."""
MOST = 0.99


@dataclass(frozen=True)
class Target:
    """Bytes that the whole artifact is to take on disk, and `overhead(model)`, those that are no weights."""

    nbytes: int
    overhead: Callable[[Adapter], int] = lambda model: 0

    def __post_init__(self) -> None:
        problems = Problems("target")
        problems.check(self.nbytes > 0, f"the target is {self.nbytes} bytes; it must be above 0.")
        problems.done()

    def met_by(self, nbytes: int) -> bool:
        return abs(nbytes - self.nbytes) <= TOLERANCE * self.nbytes


class Budget:
    """The strengths of one run on its way to a target.

    Raises:
        UserError: no stage of the cascade has a strength.
    """

    def __init__(self, target: Target, stages: Sequence[Stage], curve: str, dtype: torch.dtype, entropy: str) -> None:
        self.target, self.curve, self.dtype, self.entropy = target, curve, dtype, entropy
        balancing = [place for place, stage in enumerate(stages) if stage.strength is not None]
        if not balancing:
            raise UserError(
                f"a target of {target.nbytes:,} bytes needs a stage with a strength, as dare or nullu has; the cascade"
                f" is {'+'.join(stage.label for stage in stages)}."
            )
        self.stage = stages[balancing[-1]]
        self.later = list(stages[balancing[-1] + 1 :])
        self._planned = 0.0
        self._found: list[tuple[float, float]] = []

    @torch.no_grad()
    def strength(self, step: Step, model: Adapter) -> float:
        """The strength at which the planned artifact takes what is due in the step's round.

        Raises:
            UserError: not even the greatest strength would reach the target; says what is the least.
        """
        plans = {unit.name: UnitPlan.of(unit) for unit in model.units()}
        chosen = {stage.label: [unit.name for unit in stage.choose(model)[0]] for stage in (self.stage, *self.later)}
        now = self._bytes(plans, chosen, self.later)
        packed, rest = self._packed(model, self.later)
        ratio = packed / max(1.0, now)
        fixed = rest + self.target.overhead(model)
        correct = self._correction() if step.round == step.rounds else None

        def expected(strength: float) -> float:
            self._planned = self._bytes(plans, chosen, (self.stage.at(strength), *self.later))
            return fixed + (correct(self._planned) if correct else ratio * self._planned)

        due = self._due(step, fixed + ratio * now)
        least = expected(MOST)
        if least > due:
            if step.round < step.rounds:
                return MOST
            raise UserError(
                f"a target of {self.target.nbytes:,} bytes cannot be met: the least that {self.stage.who} reaches is"
                f" about {least:,.0f} bytes, of which {fixed:,.0f} are files, norms and biases. Ask for more bytes, let"
                " stages take more units (their roles), or end the cascade with quant, or with quant of fewer bits."
            )
        low, high = 0.0, MOST
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if expected(middle) > due else (low, middle)
        expected(high)
        return high

    @torch.no_grad()
    def again(self, model: Adapter) -> bool:
        """Whether the last round, now done, must be done again; learns how far the plan was off."""
        packed, rest = self._packed(model, ())
        if self.target.met_by(packed + rest + self.target.overhead(model)) or not self._planned:
            return False
        self._found.append((self._planned, float(packed)))
        return True

    def _correction(self) -> Callable[[float], float] | None:
        """From planned bytes of the matrices to those to expect: the line through what the last two rounds came out
        at, or in proportion to the only one; None where none was done yet."""
        if not self._found:
            return None
        planned, packed = self._found[-1]
        slope = packed / planned
        if len(self._found) > 1:
            before, its = self._found[-2]
            if before != planned and (its - packed) / (before - planned) > 0:
                slope = (its - packed) / (before - planned)
        return lambda wanted: packed + slope * (wanted - planned)

    def _due(self, step: Step, now: float) -> float:
        """Bytes due in this round, from those of now: by equal factors along the curve, so that every round does
        its part of what is left."""
        if step.round == step.rounds:
            return float(self.target.nbytes)
        done = 0.0 if step.round == 1 else _progress(self.curve, step.round - 2, step.rounds)
        part = (_progress(self.curve, step.round - 1, step.rounds) - done) / (1 - done)
        return now * math.exp(part * math.log(min(1.0, self.target.nbytes / now)))

    def _bytes(self, plans: dict[str, UnitPlan], chosen: dict[str, list[str]], stages: Sequence[Stage]) -> float:
        """Planned bytes of all units' matrices after `stages`."""
        state = dict(plans)
        for stage in stages:
            for unit in stage.plan([state[name] for name in chosen[stage.label]], self.dtype.itemsize):
                state[unit.name] = unit
        return float(sum(unit.nbytes(self.dtype.itemsize) for unit in state.values()))

    def to_json(self) -> dict[str, Any]:
        """What a resumed run must know to decide as this one would."""
        return {"planned": self._planned, "found": self._found}

    def recall(self, data: Mapping[str, Any]) -> None:
        self._planned = float(data["planned"])
        self._found = [(float(planned), float(packed)) for planned, packed in data["found"]]

    def _packed(self, model: Adapter, later: Sequence[Stage]) -> tuple[int, int]:
        """Bytes of the units' matrices, rounded as the later stages would, and of all other tensors."""
        tensors, _ = named_tensors(model.module)
        steps = steps_of(model.module)
        held = 0
        for unit in model.units():
            if unit.kind == "norm":
                continue
            form = unit.read()
            for stage in later:
                form = stage.foresee(unit, form, self.dtype)
            own = {part: getattr(form, part) for part in (*MATRICES, *STEPS) if getattr(form, part) is not None}
            stepped = {part: f"{part}_step" for part in MATRICES if f"{part}_step" in own}
            held += self._size(own, stepped)
            for part in ("weight", *own):
                tensors.pop(f"{unit.name}.{part}", None)
        return held, self._size(tensors, {name: step for name, step in steps.items() if name in tensors})

    def _size(self, tensors: dict[str, torch.Tensor], steps: dict[str, str]) -> int:
        return sum(map(len, pack(tensors, steps, self.dtype, self.entropy)))


def _progress(curve: str, index: int, total: int) -> float:
    """The curve where it is one of shares of a strength; by equal factors, 'geometric', time itself."""
    return share(curve, index, total) if curve in CURVES else (index + 1) / total
