"""Say what share of a model's bytes the stages of a plan can touch, what they leave alone, and how that is opened."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.cascade.plan import Plan
from rcc.reporting.formats import bytes_text, share_text
from rcc.reporting.left_alone import folded
from rcc.reporting.tables import Table
from rcc.stages.base import UnitPlan

HALF = 0.5
BY_ROLE, TIED = "is left alone unless asked", "left alone unless named in include"
"""Ends of the reasons of `rcc.layers.selection` for units that a stage touches when it is told to."""
NOT_ASKED = ("excluded by pattern", "not in include", "is not asked for")
"""Ends of the reasons for units that options of the user's leave out."""


def reach_text(plan: Plan) -> str:
    """The share of the dense weights' bytes that lie in units which some step of the plan chooses; loud under half."""
    share = _touched_bytes(plan) / plan.dense_bytes
    said = f"{share_text(share, 1)} of the weights' bytes can be touched by these stages"
    if share >= HALF:
        return f"{said}."
    return (
        f"WARNING: only {said}; all the others stay as they are, so that the artifact is at best"
        f" {1 / (1 - share):.1f} times smaller than dense at the same dtype. The table says how more is opened."
    )


def reach_table(plan: Plan, default_roles: Sequence[str]) -> Table:
    """What no step chooses: one row a role and reason, the most bytes first, with the option that opens it."""
    last = plan.steps[-1].step
    label = last.label or last.method
    touched = {unit.name for planned in plan.steps for unit in planned.before}
    there = {unit.role for unit in plan.units}
    roles = [role for role in default_roles if role in there]
    reasons = {skipped.name: skipped.reason for planned in plan.steps for skipped in planned.skipped}
    rows: dict[tuple[str, str, str], list[UnitPlan]] = {}
    for unit in plan.units:
        if unit.name not in touched:
            reason = reasons.get(unit.name, "no stage chooses it")
            rows.setdefault((unit.role, reason, _opened(unit, reason, label, roles)), []).append(unit)
    sizes = {key: sum(unit.nbytes(plan.itemsize) for unit in units) for key, units in rows.items()}
    found = [
        (folded(unit.name for unit in rows[key]), *key, bytes_text(size), share_text(size / plan.dense_bytes, 1))
        for key, size in sorted(sizes.items(), key=lambda each: -each[1])
    ]
    rest = plan.dense_bytes - sum(unit.nbytes(plan.itemsize) for unit in plan.units)
    if rest > 0:
        what = ("biases, buffers and lone parameters", "-", "in no unit: stored as they are", "-")
        found.append((*what, bytes_text(rest), share_text(rest / plan.dense_bytes, 1)))
    return Table(("not touched", "role", "because", "opened by", "bytes", "share"), tuple(found), left=4)


def _touched_bytes(plan: Plan) -> int:
    touched = {unit.name for planned in plan.steps for unit in planned.before}
    return sum(unit.nbytes(plan.itemsize) for unit in plan.units if unit.name in touched)


def _opened(unit: UnitPlan, reason: str, label: str, roles: Sequence[str]) -> str:
    """The option that lets a stage touch the unit; '-' where none does."""
    if reason.endswith(BY_ROLE):
        return f"stage.{label}.roles=[{','.join([*roles, unit.role])}]"
    if reason.endswith(TIED):
        return f"stage.{label}.include=[{unit.name}]"
    return "the options that leave it out" if reason.endswith(NOT_ASKED) else "-"
