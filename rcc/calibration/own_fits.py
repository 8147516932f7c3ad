"""Where a layer is fitted to its own outputs: those of its weight as it is, on inputs that the compressed model gives.

This is the objective of SparseGPT (Frantar & Alistarh 2023). It makes up for nothing that the layers before have lost,
and asks for no dense model: E[y xᵀ] is W H, so that one forward and the moments of the inputs are all it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from rcc.calibration.fit_sums import Covariance, Rows
from rcc.calibration.layer_fits import Inputs, Site
from rcc.calibration.row_fit import FITTED
from rcc.calibration.side_by_side import Arrival, arrivals
from rcc.errors import WorkError
from rcc.layers.identity import Identity
from rcc.layers.input_rows import geometry, input_rows
from rcc.layers.model import Batch, Model
from rcc.layers.units import Unit


def own_sites(
    model: Model, units: Sequence[Unit], batches: Sequence[Batch], dtype: torch.dtype = torch.float32
) -> Iterator[Site]:
    """As `rcc.calibration.layer_fits.sites`, with the outputs of each unit's present weight and bias as those wanted.

    Raises:
        WorkError: a unit's inputs hold a NaN or an infinity.
    """
    fitted = [unit for unit in units if unit.kind in FITTED and getattr(unit.module, "groups", 1) == 1]
    last: tuple[_Given, Inputs] | None = None
    for unit, batch_by_batch in arrivals(model, fitted, batches):
        known = last[1] if last is not None and last[0].is_of(unit, batch_by_batch) else None
        inputs = known or _inputs(unit, batch_by_batch, dtype)
        last = (_Given(unit, batch_by_batch), inputs)
        yield _site(unit, inputs)


class _Given:
    """What decides the rows of a layer's inputs: the tensors, unchanged since, and how they are cut into rows."""

    def __init__(self, unit: Unit, given: Sequence[Arrival]) -> None:
        self.tensors = [Identity(arrival.given) for arrival in given]
        self.geometry = geometry(unit.module)

    def is_of(self, unit: Unit, given: Sequence[Arrival]) -> bool:
        same = all(one.is_of(arrival.given) for one, arrival in zip(self.tensors, given, strict=True))
        return same and self.geometry == geometry(unit.module)


def _inputs(unit: Unit, given: Sequence[Arrival], dtype: torch.dtype) -> Inputs:
    rows = Rows(unit.shape[1], dtype, given[0].given.device)
    covariance = Covariance(rows, rows)
    for arrival in given:
        for part in input_rows(unit.module, arrival.given, arrival.mask):
            rows.take(part[0])
            covariance.add()
    if not bool(torch.isfinite(rows.mean).all()):
        raise WorkError(
            f"on the calibration batches the inputs of {unit.name} hold a NaN or an infinity: look at the model and at"
            " these batches."
        )
    return Inputs(rows.count, rows.mean, covariance.done())


def _site(unit: Unit, inputs: Inputs) -> Site:
    form = unit.read()
    weight = form.dense().detach().to(inputs.mean)
    mean = weight @ inputs.mean
    if form.bias is not None:
        mean = mean + form.bias.detach().to(mean)
    covariance = weight @ inputs.covariance
    variance = (covariance * weight).sum(1, dtype=torch.float64).clamp_min_(0)
    return Site(unit, inputs, mean, covariance, variance, [])
