"""Survey a model before it is rounded: of every matrix, what bits and damage its steps would make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcc.calibration.layer_fits import layer_fits
from rcc.calibration.sensitivity import Sensitivity
from rcc.calibration.shared_sensitivity import shared_sensitivities
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.groups import diagonal, for_rows, permuted
from rcc.ops.quadratic import Quadratic
from rcc.ops.sweep import descending, upper_factor
from rcc.stages.base import StageContext
from rcc.stages.quant.allocation import Curve, curve_of, row_sizes
from rcc.stages.quant.rounding import part_of
from rcc.stages.quant.tables import corrected, of_table

ROWS, TOKENS = 0.25, 1.0
"""How far steps follow what errors of a row cost: of a weight a quarter of the way from the size of its values to what
the costs alone ask for, of a table all of it. Of 0, 1/4 and 1/2: ResNet-20 at 20 times keeps 90.2, 96.7 and 94.9 % on
its selection split, EfficientNet-lite0 at 12 times agrees with dense in 84.0, 84.4 and 80.8 % of 250 images."""
MOST_UNEVEN = 4.0
"""Times by which steps may differ at most by what errors cost."""


@dataclass(frozen=True)
class Survey:
    """What a survey tells.

    Attributes:
        curves: of each matrix, by the names of unit and matrix; none of what no batch reached.
        tables: of each table how errors of its columns count together, (columns, columns), which feedback between them
            goes by; none without feedback.
    """

    curves: dict[tuple[str, str], Curve]
    tables: dict[str, Tensor]


def survey(model: Model, context: StageContext, names: Mapping[str, Sequence[str]], feedback: bool) -> Survey:
    """The survey of the matrices `names` of each unit.

    One forward pass gathers the second moments of each layer's inputs, which tell what feedback makes up for; without
    `feedback` their diagonals do.
    """
    units = [unit for unit in model.units() if unit.name in names]
    found = shared_sensitivities(model, units, context.calibration or (), context.generator())
    curves: dict[tuple[str, str], Curve] = {}
    left = {unit.name: unit for unit in units if unit.name in found}
    for unit, fitted in _problems(model, context, list(left.values())) if feedback else ():
        del left[unit.name]
        curves |= _curves(unit, names[unit.name], found[unit.name], fitted, context.storage)
    tables = {name: each.columns for name, each in found.items() if each.columns is not None}
    for unit in left.values():
        columns = tables.get(unit.name) if feedback else None
        problem = None if columns is None else of_table(unit.read().folded().dense(), columns)
        own = _curves(unit, names[unit.name], found[unit.name], problem, context.storage)
        if unit.name in tables:
            own = corrected(model, unit, own, found[unit.name], context)
        curves |= own
    return Survey(curves, tables if feedback else {})


def _problems(model: Model, context: StageContext, units: Sequence[Unit]) -> Iterator[tuple[Unit, Quadratic]]:
    fitted = [unit for unit in units if unit.summing]
    for fit in layer_fits(model, None, fitted, context.calibration or ()) if fitted else ():
        if fit.fired:
            yield fit.unit, fit.damped(fit.unit.read().folded().dense())


@torch.no_grad()
def _curves(
    unit: Unit, names: Sequence[str], sensitivity: Sensitivity, problem: Quadratic | None, storage: torch.dtype
) -> dict[tuple[str, str], Curve]:
    """The curve of each matrix of the unit, as if it alone were rounded."""
    form = unit.read().folded()
    found = {}
    for name in names:
        matrix: Tensor = getattr(form, name).detach()
        rows = sensitivity.rows.to(matrix.device)
        if name == "right":  # a row of V counts with the outputs that its column of U goes to
            assert form.left is not None
            rows = form.left.detach().double().square().T @ rows
        if problem is None:
            columns = _columns(form, name, sensitivity.inputs.to(matrix.device))
        else:
            columns = left_over(part_of(form, name, problem)[0].moment)
        columns = for_rows(columns, len(matrix))
        # The channels of a grouped convolution have inputs of their own, which its rows are told apart by too.
        costs = rows * columns.double().mean(1) if columns.dim() == 2 else rows
        sizes = sizes_by_cost(matrix, costs, TOKENS if unit.kind == "embedding" else ROWS)
        found[unit.name, name] = curve_of(matrix, rows, columns, storage, sizes)
    return found


def _columns(form: Form, name: str, inputs: Tensor) -> Tensor:
    """What a squared error of each column of a matrix counts where no other column makes up for it, from the variances
    of the inputs (groups, in)."""
    variances = inputs[0] if len(inputs) == 1 else inputs
    if name != "left":
        return variances
    assert form.right is not None
    return form.right.detach().double().square() @ variances


def left_over(moment: Tensor) -> Tensor:
    """What of each input's variance the inputs rounded after it do not tell, (…, in), from H (…, in, in)."""
    order = descending(diagonal(moment))
    own = diagonal(upper_factor(permuted(moment, order))).square()
    return torch.empty_like(own).scatter_(-1, order, own)


def sizes_by_cost(matrix: Tensor, rows: Tensor, power: float) -> Tensor:
    """What the steps of each row are factors of, (rows,), float32: its root mean square, less where a squared error of
    the row costs more (`rows`), by that power of the ratio, and no further than `MOST_UNEVEN` times.

    Steps in inverse proportion to the root of what an error costs make one bit worth the same in all rows. What is
    known of a row, and of rare tokens above all, is little, so that weights follow it a part of the way.
    """
    sizes = row_sizes(matrix)
    if not float(rows.max()) > 0:
        return sizes
    weights = rows.clamp_min(float(rows.max()) * 1e-9)
    wanted = (weights.log().mean().exp() / weights).sqrt().float()
    live = sizes > 0
    if power == ROWS and bool(live.any()):  # as large as the rows are, in the mean
        wanted = wanted * sizes[live].log().mean().exp() / sizes.clamp_min(1e-12)
    uneven = wanted.pow(power).clamp(1 / MOST_UNEVEN, MOST_UNEVEN)
    return torch.where(live, sizes * uneven, sizes)
