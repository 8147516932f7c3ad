"""Plan a run before anything is touched: units, order, strengths and the bytes to expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rcc.artifact.size import model_size
from rcc.cascade.bytes.balance import Balance, due_bytes, due_of_stage, solved_for
from rcc.cascade.bytes.budget import Target
from rcc.cascade.records import Step
from rcc.cascade.schedule import Schedule
from rcc.layers.selection import Skipped
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage, UnitPlan


@dataclass(frozen=True)
class PlannedStep:
    """The expected outcome of a step: the units before and after it, those left alone, the model's bytes after."""

    step: Step
    before: tuple[UnitPlan, ...]
    after: tuple[UnitPlan, ...]
    skipped: tuple[Skipped, ...]
    nbytes: int

    @property
    def changed(self) -> int:
        """The number of units that would be stored otherwise after it."""
        pairs = zip(self.before, self.after, strict=True)
        return sum((before.matrices, before.steps) != (after.matrices, after.steps) for before, after in pairs)


@dataclass(frozen=True)
class Plan:
    """All steps of a run, with the bytes of the dense model at the artifact's dtype."""

    steps: tuple[PlannedStep, ...]
    units: tuple[UnitPlan, ...]
    dense_bytes: int
    itemsize: int
    target: int | None = None


def plan_run(
    model: Adapter, stages: Sequence[Stage], schedule: Schedule, dtype: torch.dtype, target: Target | None = None
) -> Plan:
    """Walk the steps over the units' shapes alone; a model on the meta device is enough.

    Values are counted as if the gate let every step pass; an energy rule may keep fewer than planned. Bytes are those
    without entropy coding, which only what is written can tell: the most to expect. Strengths that a target decides
    are the ones at which such bytes meet it, or come nearest to it, shared among stages alike; a run needs less, and
    measures what each should have.
    """
    itemsize = dtype.itemsize
    state = {unit.name: UnitPlan.of(unit) for unit in model.units()}
    units = tuple(state.values())
    dense = model_size(model, dtype, "none").nbytes
    rest = dense - sum(unit.nbytes(itemsize) for unit in units)
    by_label = {stage.label: stage for stage in stages}
    solved = [] if target is None else solved_for(stages, target.split)
    shares, due = {stage.label: 1.0 for stage in solved}, {}
    planned = []
    for step in schedule.steps(stages, solved):
        stage = by_label[step.label]
        if target is not None and step.label in shares:
            balance = Balance.of(model, stages, stage, solved, itemsize, state)
            others = dense - sum(unit.nbytes(itemsize) for unit in units if unit.name in balance.plans)
            now = others + balance.nbytes()
            if step.round not in due:
                due[step.round] = due_bytes(schedule.curve, step.round, step.rounds, now, target.nbytes)
            wanted = due_of_stage(now, due[step.round], shares, step.label)
            step = replace(step, strength=balance.solve(wanted - others).strength)
        if step.strength is not None:
            stage = stage.at(step.strength)
        chosen, skipped = stage.choose(model)
        before = tuple(state[unit.name] for unit in chosen)
        after = tuple(stage.plan(before, itemsize))
        state.update({unit.name: unit for unit in after})
        nbytes = rest + sum(unit.nbytes(itemsize) for unit in state.values())
        planned.append(PlannedStep(step, before, after, tuple(skipped), nbytes))
    return Plan(tuple(planned), units, dense, itemsize, None if target is None else target.nbytes)
