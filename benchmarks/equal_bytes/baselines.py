"""Compress a subject to given bytes by the usual ways, stored in the product's own artifact.

Whole bits alone meet no target. So the rows of all layers, first layer first and tables of embeddings last, get one bit
more than the rest, as many of them as the bytes allow: a share that is solved for on the artifact's true bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from subjects.subject import Subject
from torch import Tensor

from equal_bytes.artifacts import artifact_bytes
from equal_bytes.moments import input_moments
from equal_bytes.rounding import clipped_steps, nearest, with_feedback
from rcc.cascade.bytes.budget import Target
from rcc.errors import WorkError
from rcc.layers.grid import from_grid
from rcc.layers.units import Unit
from rcc.models.adapter import Adapter

LEAST, MOST = 2, 8
PRUNED_BITS = 4
PROBES = 14
NEAR = 0.002
"""Share of the target by which the bytes of a baseline may lie below it before the search ends."""

Rounded = tuple[Tensor, Tensor]
"""Whole numbers (rows, columns) in int8, and a step for each row."""


def rounded_to_nearest(subject: Subject, target: Target) -> tuple[Adapter, str]:
    """Nearest rounding, each row's step of least squared error."""
    model = subject.dense()
    return whole_bits(model, target, lambda unit, bits: _nearest(unit.read().sparse, bits))


def gptq(subject: Subject, target: Target) -> tuple[Adapter, str]:
    """Rounding with feedback on the same steps; tables of embeddings to nearest."""
    model = subject.dense()
    summing = [unit.name for unit in _units(model) if unit.summing]
    moments = input_moments(model, summing, subject.calibration())

    def rounded(unit: Unit, bits: int) -> Rounded:
        matrix = unit.read().sparse
        if unit.name not in moments:
            return _nearest(matrix, bits)
        step = clipped_steps(matrix.float(), bits)
        return with_feedback(matrix, step, bits, moments[unit.name]).to(torch.int8), step

    return whole_bits(model, target, rounded)


def magnitude_and_nearest(subject: Subject, target: Target) -> tuple[Adapter, str]:
    """The smallest weights of the whole model removed, the others rounded to nearest at 4 bits: at more bits where 4
    leave bytes unused with nothing removed."""
    model = subject.dense()
    units = _units(model)
    matrices = [unit.read().sparse.clone() for unit in units]
    ordered = np.sort(np.concatenate([matrix.abs().flatten().numpy() for matrix in matrices]))

    def put(zeros: float, bits: int) -> int:
        limit = float(ordered[min(int(zeros * len(ordered)), len(ordered) - 1)])
        for unit, matrix in zip(units, matrices, strict=True):
            _write(unit, _nearest(matrix.masked_fill(matrix.abs() < limit, 0.0), bits))
        return artifact_bytes(model, target)

    bits = PRUNED_BITS
    while bits < MOST and put(0.0, bits) < target.nbytes:
        bits += 1
    zeros = _solved(lambda share: put(1 - share, bits), 0.0, 1.0, target)
    return model, f"{1 - zeros:.1%} zeros, {bits} bits"


def whole_bits(model: Adapter, target: Target, rounded: Callable[[Unit, int], Rounded]) -> tuple[Adapter, str]:
    """`model` with all its matrices rounded so that the artifact takes the target's bytes, or a little less."""
    units = _units(model)
    dense = [unit.read() for unit in units]

    def made(bits: int) -> list[Rounded]:
        for unit, form in zip(units, dense, strict=True):
            unit.write(form)
        return [rounded(unit, bits) for unit in units]

    def put(all_rounded: Sequence[Rounded]) -> int:
        for unit, each in zip(units, all_rounded, strict=True):
            _write(unit, each)
        return artifact_bytes(model, target)

    # Where bits are few the codes of two neighbouring numbers of bits are all that is kept.
    lower = made(LEAST)
    least = put(lower)
    if least > target.nbytes:
        raise WorkError(f"out of reach: {LEAST} bits everywhere take {least:,} bytes, and {target.nbytes:,} are asked")
    for bits in range(LEAST + 1, MOST + 1):
        upper = made(bits)
        if put(upper) > target.nbytes:
            break
        lower = upper
    rows = [len(step) for _, step in lower]
    starts = np.cumsum([0, *rows])

    def mixed(share: float) -> int:
        count = round(share * int(starts[-1]))
        return put(
            [
                _joined(high, low, min(max(count - int(start), 0), size))
                for high, low, start, size in zip(upper, lower, starts, rows, strict=False)
            ]
        )

    share = _solved(mixed, 0.0, 1.0, target)
    return model, f"{bits} bits in the first {share:.0%} of the rows, {bits - 1} in the others"


def _joined(upper: Rounded, lower: Rounded, count: int) -> Rounded:
    """The first `count` rows of `upper`, and the others of `lower`."""
    codes, step = (torch.cat([high[:count], low[count:]]) for high, low in zip(upper, lower, strict=True))
    return codes, step


def _solved(nbytes_at: Callable[[float], int], low: float, high: float, target: Target) -> float:
    """The greatest share found whose bytes, which rise with it, are not above the target; it is the last one put."""
    wanted = target.nbytes
    ends = {low: nbytes_at(low), high: nbytes_at(high)}
    if ends[high] <= wanted:
        return high
    for probe in range(PROBES):
        if wanted - ends[low] <= NEAR * wanted:
            break
        # A secant that lands on the same side again and again is relieved by a bisection.
        slope = (wanted * (1 - NEAR / 2) - ends[low]) / (ends[high] - ends[low])
        middle = low + (high - low) * (slope if probe % 3 < 2 else 0.5)
        ends[middle] = nbytes_at(middle)
        low, high = (middle, high) if ends[middle] <= wanted else (low, middle)
    nbytes_at(low)
    return low


def _units(model: Adapter) -> list[Unit]:
    """All that can be rounded, tables of embeddings last."""
    found = [unit for unit in model.units() if unit.kind != "norm" and not unit.obstacle]
    return sorted(found, key=lambda unit: unit.kind == "embedding")


def _nearest(matrix: Tensor, bits: int) -> Rounded:
    step = clipped_steps(matrix.float(), bits)
    return nearest(matrix.float(), step, bits).to(torch.int8), step


def _write(unit: Unit, rounded: Rounded) -> None:
    codes, step = rounded
    unit.write(replace(unit.read(), sparse=from_grid(codes, step), sparse_step=step))
