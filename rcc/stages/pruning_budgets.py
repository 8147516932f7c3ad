"""How many values every unit gives up: by scope, who shares a budget, and by allocation, what it is shared for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcc.calibration.sensitivity import Sensitivity, sensitivities
from rcc.layers.units import Unit
from rcc.ops.allocate import allocate, outlier_shares
from rcc.ops.scores import Scores
from rcc.stages.base import Compressible
from rcc.stages.pruning_plan import pools_by_scope
from rcc.stages.pruning_state import PruningState

EXPONENT = 0.5
"""Power of a layer's sensitivity that its relative error counts with. 1 would be right if errors of layers added up
like noise; 0 asks the same relative error of all. Measured between them (docs/method/dare.md)."""


def budgets(
    state: PruningState, model: Compressible, target: float, scope: str, allocation: str, score: str, floor: float
) -> dict[str, int]:
    """The number of zeros each unit is to have, by name, at a share of `target` of all values; exact in all.

    Wherever units compete, each keeps the share `floor` of its values at least, so that no layer dies.
    """
    pools = pools_by_scope(state.units, scope)
    if allocation == "sensitivity":
        return _by_sensitivity(state, model, target, floor)
    if allocation == "owl":
        return _by_outliers(state, target, floor)
    totals = [round(target * state.scores(pool, "magnitude").numel) for pool in pools]
    if allocation == "importance":
        values = [state.scores(pool, "magnitude") for pool in pools]
        norms = [math.sqrt(sum(state.energy[unit.name] for unit in pool)) for pool in pools]
        totals = allocate(values, norms, round(target * sum(pool.numel for pool in values)), 1 - floor)
    counts: dict[str, int] = {}
    for pool, total in zip(pools, totals, strict=True):
        if len(pool) == 1:
            counts[pool[0].name] = total
            continue
        # Few layers have a budget of their own here: the least scores go, whatever layer they are in.
        shared = allocate([state.scores([unit], score) for unit in pool], [1.0] * len(pool), total, 1 - floor)
        counts |= {unit.name: count for unit, count in zip(pool, shared, strict=True)}
    return counts


def _by_sensitivity(state: PruningState, model: Compressible, target: float, floor: float) -> dict[str, int]:
    """One budget for all linear and convolutional units: values go by what they cost the model's outputs.

    A value's share of its layer's relative squared error is score² / energy; it counts with the layer's
    sensitivity to the power `EXPONENT`. Units that are not sensitive to anything keep the target's share.
    """
    found = sensitivities(model, state.units, state.context.calibration or (), state.context.generator())
    ranked = [unit for unit in state.units if unit.name in found and _counts(found[unit.name])]
    counts = {unit.name: round(target * _scores(state, [unit]).numel) for unit in state.units}
    if not ranked:
        return counts
    norms = [math.sqrt(found[unit.name].energy / found[unit.name].weight ** EXPONENT) for unit in ranked]
    total = sum(counts[unit.name] for unit in ranked)
    given = allocate([_scores(state, [unit]) for unit in ranked], norms, total, 1 - floor)
    return counts | {unit.name: count for unit, count in zip(ranked, given, strict=True)}


def _by_outliers(state: PruningState, target: float, floor: float) -> dict[str, int]:
    """The shares of OWL: layers with more outliers among their scores keep more."""
    pools = [_scores(state, [unit]) for unit in state.units]
    sizes = [pool.numel for pool in pools]
    shares = outlier_shares(pools, sizes, target, 1 - floor)
    counts, given, wanted = {}, 0, 0.0
    for unit, share, size in zip(state.units, shares, sizes, strict=True):
        wanted += share * size
        # Rounding the running sum, not each part, keeps the total exact.
        counts[unit.name] = round(wanted) - given
        given += counts[unit.name]
    return counts


def _scores(state: PruningState, pool: Sequence[Unit]) -> Scores:
    return state.scores(pool, "wanda")


def _counts(sensitivity: Sensitivity) -> bool:
    return sensitivity.weight > 0 and sensitivity.energy > 0
