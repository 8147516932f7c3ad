"""Rescale what survived pruning; each way returns its factor, one number a layer."""

from __future__ import annotations

import math

import torch

from rcc.calibration.row_fit import fit_rows
from rcc.layers.model import Model
from rcc.ops.prune import least_squares_factor
from rcc.stages.dare.state import PruningState


def by_number(state: PruningState, factor: float) -> dict[str, float]:
    """Every weight by `factor`; where factors are stored that is U alone."""
    for unit in state.units:
        state.multiply_rows(unit, torch.full((unit.shape[0],), float(factor), dtype=torch.float64))
    return {unit.name: float(factor) for unit in state.units}


def by_share_kept(state: PruningState) -> dict[str, float]:
    """Every matrix by non-zeros before / after since the counts were noted: unbiased after a random drop.

    Where factors are stored the number given is the product of theirs.
    """
    products = {}
    for unit in state.units:
        factors = state.survivals(unit)
        state.multiply(unit, factors)
        products[unit.name] = math.prod(factors.values())
    return products


def by_least_squares(state: PruningState, model: Model) -> dict[str, float]:
    """Every row by the factor that fits its outputs best to the original's on the calibration batches.

    The number given is the mean over the rows. Units without output channels (norms, embeddings) stay.
    """
    fits = fit_rows(model, state.units, lambda unit: state.original(unit).dense(), state.context.calibration or ())
    means = {}
    for unit in state.units:
        if unit.name in fits:
            factors = least_squares_factor(fits[unit.name].cross, fits[unit.name].energy)
            state.multiply_rows(unit, factors)
            means[unit.name] = float(factors.mean())
    return means
