"""Measure what rounding a table of tokens does to the model's outputs, and correct its curve by it.

Gradients tell what small errors of a row cost. Coarse steps leave nothing of a rare token, and the norm behind the
table brings what is left, its place in the text, to full size: that costs many times what the gradients say. Nor do the
items that gradients were taken of hold the tokens that others will. So a table is rounded at a few steps, and the
outputs on other items are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.calibration.sensitivity import ITEMS, Sensitivity
from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating
from rcc.layers.units import Unit
from rcc.ops.quadratic import Quadratic
from rcc.stages.base import StageContext
from rcc.stages.quant.allocation import Curve, Spaced
from rcc.stages.quant.rounding import nearest

MEASURED = (-1.0, 0.0, 1.0, 2.0, 3.0)
"""Logarithms of the factors at which outputs are compared: steps of half a row's size and more. Those of finer ones
differ by what the coarsest of these shows, as rounding of the arithmetic would drown what they do."""
MOST_ITEMS = 64
MOST_TIMES = 32.0
"""By which a measured damage may differ from what gradients tell; more is chance."""


def of_table(rows: Tensor, columns: Tensor) -> Quadratic:
    """What rounding is to keep small of a table (rows, columns): the errors of each row by how its columns count
    together. The tokens have no inputs that could be correlated: the gradients by what is looked up take their place.
    """
    return Quadratic.around(rows, columns.to(rows.device, torch.float32)).damped(rows)


@torch.no_grad()
def corrected(
    model: Model,
    unit: Unit,
    curves: Mapping[tuple[str, str], Curve],
    sensitivity: Sensitivity,
    context: StageContext,
) -> dict[tuple[str, str], Curve]:
    """The curves of a table's matrices, their damage as many times larger as the outputs move more, when the table
    alone is rounded to nearest, than `sensitivity` says of these errors."""
    assert sensitivity.columns is not None
    form = unit.read().folded()
    table, batches = form.dense(), _others(context.calibration or ())
    dense = _outputs(model, batches)
    rows, columns = sensitivity.rows.to(table.device), sensitivity.columns.to(table)
    times = []
    try:
        for log in MEASURED:
            spaced = {
                name: Spaced(2.0**log, curve.rate_at(log), context.storage, curve.sizes)
                for (_, name), curve in curves.items()
            }
            rounded = nearest(form, spaced)
            errors = rounded.dense() - table
            told = 0.5 * float((((errors @ columns) * errors).sum(1, dtype=torch.float64) * rows).sum())
            unit.write(rounded)
            moved = _moved(_outputs(model, batches), dense)
            times.append(moved / told if told > 0 and moved > 0 else 1.0)
    finally:
        unit.write(form)
    logs = np.log(np.clip(times, 1 / MOST_TIMES, MOST_TIMES))
    return {
        key: replace(curve, damage=curve.damage * np.exp(np.interp(curve.log_factors, MEASURED, logs)))
        for key, curve in curves.items()
    }


def _others(batches: Sequence[Batch]) -> list[Batch]:
    """Items of the batches that sensitivities are not taken of, at most `MOST_ITEMS`; the last ones where these take
    all."""
    seen, later = 0, []
    for batch in batches:
        if seen >= ITEMS:
            later.append(batch)
        seen += _items(batch)
    later = later or list(batches[-1:])
    sizes = np.cumsum([_items(batch) for batch in later])
    return later[: 1 + int(np.searchsorted(sizes, MOST_ITEMS))]


def _items(batch: Batch) -> int:
    return max((len(tensor) for tensor in batch.values() if tensor.dim()), default=1)


@torch.no_grad()
def _outputs(model: Model, batches: Sequence[Batch]) -> list[dict[str, Tensor]]:
    with evaluating(model.module):
        return [dict(model.outputs(batch)) for batch in batches]


def _moved(now: Sequence[dict[str, Tensor]], before: Sequence[dict[str, Tensor]]) -> float:
    """1 − cos along the last dimension, summed over all else but the items, of which it is the mean."""
    items, total = 0, 0.0
    for mine, theirs in zip(now, before, strict=True):
        items += len(next(iter(mine.values())))
        for name, output in mine.items():
            total += float((1 - F.cosine_similarity(output.double(), theirs[name].double(), dim=-1)).sum())
    return total / items if items and math.isfinite(total) else 0.0
