"""Render the plan of a dry run as tables: what each step would do, and what becomes of every unit and why."""

from __future__ import annotations

from collections import Counter

from rcc.cascade.plan import Plan, PlannedStep
from rcc.reporting.formats import bytes_text, ratio_text, strength_text
from rcc.reporting.left_alone import folded
from rcc.reporting.tables import Table, short_name


def plan_steps(plan: Plan) -> Table:
    """One row a step: its budget, the units it would touch and leave alone, and the bytes to expect after it."""
    rows = [("dense", "-", str(len(plan.units)), "-", bytes_text(plan.dense_bytes), "1.00×")]
    for planned in plan.steps:
        rows.append(
            (
                short_name(planned.step),
                strength_text(planned.step.strength),
                str(len(planned.before)),
                str(len(planned.skipped) + len(planned.before) - planned.changed),
                bytes_text(planned.nbytes),
                ratio_text(plan.dense_bytes, planned.nbytes),
            )
        )
    return Table(("step", "strength", "units", "unchanged", "bytes after", "times smaller"), tuple(rows))


def plan_units(planned: PlannedStep, itemsize: int) -> Table:
    """The plan of a step for each unit it chooses; layers of one kind that fare alike share a row."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for before, after in zip(planned.before, planned.after, strict=True):
        bytes_each = (bytes_text(before.nbytes(itemsize)), bytes_text(after.nbytes(itemsize)))
        shape = "×".join(map(str, after.shape))
        alike.setdefault((after.role, after.tower, after.note, shape, *bytes_each), []).append(after.name)
    rows = tuple((folded(names), *facts) for facts, names in alike.items())
    return Table(("units", "role", "tower", "plan", "shape", "before", "after"), rows, left=4)


def telling_steps(plan: Plan) -> list[PlannedStep]:
    """One step a stage: the last round in which it would change a unit, or its last round if it never would."""
    telling: dict[str, PlannedStep] = {}
    for planned in plan.steps:
        if planned.changed or planned.step.label not in telling:
            telling[planned.step.label] = planned
    return list(telling.values())


def plan_skips(plan: Plan) -> Table:
    """The reasons for leaving units alone: one row a stage and reason, with their number and an example."""
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for planned in plan.steps:
        if planned.step.round < planned.step.rounds:
            continue  # a stage chooses the same units in every round it runs in, and all run in the last
        for skipped in planned.skipped:
            key = planned.step.label, skipped.reason
            counts[key] += 1
            example.setdefault(key, skipped.name)
    rows = tuple((label, reason, example[label, reason], str(count)) for (label, reason), count in counts.items())
    return Table(("stage", "left alone because", "for example", "units"), rows, left=3)
