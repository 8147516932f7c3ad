"""Predict what pruning leaves of each unit, from counts alone, for a dry run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from rcc.layers.encoding import encoded_bytes
from rcc.stages.base import UnitPlan, planned

MOST = 0.99
"""The largest share of zeros pruning is asked for, in all and, where shares differ, in any one pool."""


Item = TypeVar("Item", bound="InTower")


class InTower(Protocol):
    @property
    def tower(self) -> str: ...


def pools_by_scope(units: Sequence[Item], scope: str) -> list[list[Item]]:
    """`units` divided into those that share one budget: each alone (and evenly, in 'row'), those of a tower, or all."""
    if scope in ("row", "layer"):
        return [[unit] for unit in units]
    if scope == "global":
        return [list(units)]
    towers: dict[str, list[Item]] = {}
    for unit in units:
        towers.setdefault(unit.tower, []).append(unit)
    return list(towers.values())


def plan_pruning(
    units: Sequence[UnitPlan], target: float, scope: str, allocation: str, itemsize: int
) -> list[UnitPlan]:
    """The counts after pruning to `target`: exact for each pool, so for each matrix that is one by itself.

    Within a pool of several matrices every one is expected to give up the same share of its non-zeros.
    """
    after: dict[str, UnitPlan] = {}
    for pool in pools_by_scope(units, scope):
        matrices = [counts for unit in pool for counts in unit.matrices.values()]
        stored, nonzeros = (sum(counts) for counts in zip(*matrices, strict=True))
        left = min(nonzeros, stored - round(target * stored))
        expected = scope not in ("row", "layer") or allocation != "uniform"
        taken = 0
        for unit in pool:
            counts = {}
            for name, (numel, present) in unit.matrices.items():
                # Rounding the running sum, not each part, keeps the pool's total exact.
                kept = round(left * (taken + present) / nonzeros) - round(left * taken / nonzeros) if nonzeros else 0
                taken += present
                counts[name] = (numel, kept)
            after[unit.name] = planned(unit, _note(counts, itemsize, scope, expected), **counts)
    return [after[unit.name] for unit in units]


def saves_nothing(matrices: Mapping[str, tuple[int, int]], itemsize: int) -> bool:
    """Whether no matrix of (numel, nonzeros) has zeros enough to pay for its bitmask."""
    return all(encoded_bytes(numel, kept, itemsize) >= numel * itemsize for numel, kept in matrices.values())


def note_on_bytes(itemsize: int) -> str:
    """What to say of a unit of which `saves_nothing` holds."""
    return f"no bytes saved: under {1 / (8 * itemsize):.1%} zeros a bitmask costs more than it saves"


def _note(counts: Mapping[str, tuple[int, int]], itemsize: int, scope: str, expected: bool) -> str:
    notes = []
    if expected:
        alone = scope in ("row", "layer")
        notes.append("expected share of all layers" if alone else f"expected share of the {scope}'s budget")
    elif len(counts) > 1:
        notes.append("exact over the layer, expected for each matrix")
    if saves_nothing(counts, itemsize):
        notes.append(note_on_bytes(itemsize))
    return "; ".join(notes)
