"""Say what share of a model's bytes the stages of a plan can touch, what they leave alone, and how that is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rcc.cascade.plan import Plan
from rcc.reporting.formats import bytes_text, share_text
from rcc.reporting.left_alone import folded
from rcc.reporting.tables import Table

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
    names: dict[tuple[str, str, str], list[str]] = {}
    sizes: Counter[tuple[str, str, str]] = Counter()
    for unit in plan.units:
        if unit.name not in touched:
            reason = reasons.get(unit.name, "no stage chooses it")
            key = unit.role, reason, _opened(unit.name, unit.role, reason, label, roles)
            names.setdefault(key, []).append(unit.name)
            sizes[key] += unit.nbytes(plan.itemsize)
    found = [
        (folded(names[key]), *key, bytes_text(size), share_text(size / plan.dense_bytes, 1))
        for key, size in sizes.most_common()
    ]
    rest = plan.dense_bytes - sum(unit.nbytes(plan.itemsize) for unit in plan.units)
    if rest > 0:
        what = ("biases, buffers and lone parameters", "-", "in no unit: stored as they are", "-")
        found.append((*what, bytes_text(rest), share_text(rest / plan.dense_bytes, 1)))
    return Table(("not touched", "role", "because", "opened by", "bytes", "share"), tuple(found), left=4)


def _touched_bytes(plan: Plan) -> int:
    touched = {unit.name for planned in plan.steps for unit in planned.before}
    return sum(unit.nbytes(plan.itemsize) for unit in plan.units if unit.name in touched)


def _opened(name: str, role: str, reason: str, label: str, roles: Sequence[str]) -> str:
    """The option that lets a stage touch the unit; '-' where none does."""
    if reason.endswith(BY_ROLE):
        return f"stage.{label}.roles=[{','.join([*roles, role])}]"
    if reason.endswith(TIED):
        return f"stage.{label}.include=[{name}]"
    return "the options that leave it out" if reason.endswith(NOT_ASKED) else "-"
