"""Walk a model's units in the order in which a stage must treat them, each with its statistics or why it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from rcc.calibration.layer_fits import LayerFit, layer_fits
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.stages.base import StageContext

UNREACHED = "no calibration batch reached it with an input other than zero"


@dataclass(frozen=True)
class Unfitted:
    """A unit without statistics, and the reason."""

    unit: Unit
    reason: str


def layerwise(
    model: Model,
    context: StageContext,
    units: Sequence[Unit],
    *,
    target: str = "dense",
    dtype: torch.dtype = torch.float32,
    rows: bool = False,
) -> Iterator[LayerFit | Unfitted]:
    """Every one of `units` once, with what it is to be fitted to.

    First come those that no sum over inputs can be gathered for (embeddings, norms), so that the
    layers after them make up for what becomes of them; then the others in the order in which the model calls them;
    last those that no calibration batch reached. A unit may be written while the iterator waits: later ones then see
    its new outputs. What a `LayerFit` holds is released when the iterator goes on.

    Args:
        target: 'dense' fits to the dense model's outputs, 'own' to those of the unit's weight as it is.
        dtype: in which sums are held.
        rows: hold every row of one layer, for `LayerFit.rows`.

    Raises:
        WorkError: inputs or outputs that are not finite, or batches that call layers in opposite orders.
    """
    coming = {unit.name: unit for unit in units if unit.summing}
    unfitted = [Unfitted(unit, reason_unfitted(unit)) for unit in units if not unit.summing]
    # Opened before the first unit is written: the dense model may be a copy of this one.
    with context.dense_beside(model) if coming and target == "dense" else nullcontext() as dense:
        yield from unfitted
        if coming:
            fits = layer_fits(model, dense, list(coming.values()), context.calibration or (), dtype, rows)
            yield from _reached(fits, coming)
    yield from (Unfitted(unit, UNREACHED) for unit in coming.values())


def _reached(fits: Iterator[LayerFit], coming: dict[str, Unit]) -> Iterator[LayerFit | Unfitted]:
    """The fits of layers that gave anything but zeros a weight; they leave `coming`, and so do the others."""
    for fit in fits:
        unit = coming.pop(fit.unit.name)
        yield fit if fit.fired else Unfitted(unit, UNREACHED)


def reason_unfitted(unit: Unit) -> str:
    """Why a unit that is not `summing` has no statistics."""
    if unit.kind == "embedding":
        return "an embedding looks its rows up: it has no inputs to fit on"
    return "a norm is no sum over inputs"
