"""Share a number of zeros among units: by scope, who shares a budget, and by allocation, what it is shared for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcc.calibration.sensitivity import Sensitivity
from rcc.calibration.shared_sensitivity import shared_sensitivities
from rcc.errors import UserError
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.allocate import allocate, outlier_shares
from rcc.ops.scores import Scores
from rcc.stages.dare.plan import pools_by_scope
from rcc.stages.dare.state import PruningState

EXPONENT = 0.5
"""Power of a layer's sensitivity that its relative error counts with. 1 would be right if errors of layers added up
like noise; 0 asks the same relative error of all. Measured between them (docs/method/dare.md)."""


def budgets(
    state: PruningState, model: Model, target: float, scope: str, allocation: str, score: str, floor: float
) -> dict[str, int]:
    """The number of zeros each unit is to have, by name, at a share of `target` of all values; exact in all.

    Wherever units compete, each keeps the share `floor` of its values, to within one, so that no layer dies.

    Raises:
        UserError: that leaves too little to give up.
    """
    if allocation == "sensitivity":
        return _by_sensitivity(state, model, target, floor)
    if allocation == "owl":
        return _by_outliers(state, target, floor)
    return _by_pools(state, target, scope, allocation, score, floor)


def _by_pools(
    state: PruningState, target: float, scope: str, allocation: str, score: str, floor: float
) -> dict[str, int]:
    """Budgets of the scope's pools: the same share of each, or what makes the sum of relative errors least."""
    pools = pools_by_scope(state.units, scope)
    totals = [round(target * state.scores(pool, "magnitude").numel) for pool in pools]
    if allocation == "importance":
        values = [state.scores(pool, "magnitude") for pool in pools]
        norms = [math.sqrt(sum(state.energy[unit.name] for unit in pool)) for pool in pools]
        totals = _shared(values, norms, round(target * sum(pool.numel for pool in values)), floor)
    counts: dict[str, int] = {}
    for pool, total in zip(pools, totals, strict=True):
        if len(pool) == 1:
            counts[pool[0].name] = total
            continue
        # Few layers have a budget of their own here: the least scores go, whatever layer they are in.
        shared = _shared([state.scores([unit], score) for unit in pool], [1.0] * len(pool), total, floor)
        counts |= {unit.name: count for unit, count in zip(pool, shared, strict=True)}
    return counts


def _by_sensitivity(state: PruningState, model: Model, target: float, floor: float) -> dict[str, int]:
    """One budget for all linear and convolutional units: values go by what they cost the model's outputs.

    A value's share of its layer's relative squared error is score² / energy; it counts with the layer's
    sensitivity to the power `EXPONENT`. Units that the outputs do not feel, and those that are no sum over inputs, keep
    the target's share.
    """
    summing = [unit for unit in state.units if unit.summing]
    found = shared_sensitivities(model, summing, state.context.calibration or (), state.context.generator())
    ranked = [unit for unit in state.units if unit.name in found and _counts(found[unit.name])]
    counts = _same_share(state, target)
    if ranked:
        norms = [math.sqrt(found[unit.name].energy / found[unit.name].weight ** EXPONENT) for unit in ranked]
        total = sum(counts[unit.name] for unit in ranked)
        given = _shared([_scores(state, unit) for unit in ranked], norms, total, floor)
        counts |= {unit.name: count for unit, count in zip(ranked, given, strict=True)}
    return counts


def _by_outliers(state: PruningState, target: float, floor: float) -> dict[str, int]:
    """The shares of OWL: layers with more outliers among their scores keep more.

    Units that are no sum over inputs have no such scores: they keep the target's share.
    """
    ranked = [unit for unit in state.units if unit.summing]
    counts = _same_share(state, target)
    if ranked:
        pools = [_scores(state, unit) for unit in ranked]
        shares = outlier_shares(pools, [pool.numel for pool in pools], target, 1 - floor)
        given, wanted, total = 0, 0.0, round(target * sum(pool.numel for pool in pools))
        for unit, share, pool in zip(ranked, shares, pools, strict=True):
            wanted += share * pool.numel
            # Rounding the running sum, not each part, keeps the total exact.
            counts[unit.name] = (total if unit is ranked[-1] else round(wanted)) - given
            given += counts[unit.name]
    return counts


def _shared(pools: Sequence[Scores], norms: Sequence[float], total: int, floor: float) -> list[int]:
    try:
        return allocate(pools, norms, total, 1 - floor)
    except ValueError as error:
        raise UserError(f"{error}, each keeping a share of {floor:.4g}: lower target_sparsity or floor.") from error


def _same_share(state: PruningState, target: float) -> dict[str, int]:
    return {unit.name: round(target * unit.read().stored) for unit in state.units}


def _scores(state: PruningState, unit: Unit) -> Scores:
    return state.scores([unit], "wanda")


def _counts(sensitivity: Sensitivity) -> bool:
    return sensitivity.weight > 0 and sensitivity.energy > 0
