"""Round biases and norms to the multiples of one step a vector, which an artifact keeps in a byte a value.

The step has four significant bits (`rcc.layers.grid.step_for`), so that step · q is exact in float16 and the artifact
finds the grid in the values themselves (`rcc.artifact.vectors`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rcc.layers.grid import LARGEST, multiples, step_for

BITS = 8
LEAST_VALUES = 16
"""Shorter vectors would take no fewer bytes."""
LARGEST_ERROR, OUTLIERS = 0.02, 1 / 16
"""Root mean square of the errors over that of the values without such a share of them, the largest, beyond which a
vector is left as it is: one with an outlier, whose step is too coarse for the others. Of Gaussian values it is 0.01."""


def round_vector(values: Tensor, storage: torch.dtype) -> Tensor:
    """The nearest multiples of the vector's step to `values` (n,), in their dtype, each one that `storage` holds.

    A vector of zeros, or of values that are not finite, comes back as it is.
    """
    step = step_for(values.to(storage).float())
    if step is None:
        return values
    whole = (values.cpu().double() / math.ldexp(*step)).round_().clamp_(-LARGEST, LARGEST)
    rounded = multiples(whole, step, storage).to(values)
    return rounded.masked_fill_(rounded == 0, 0.0)


@torch.no_grad()
def round_vectors(module: nn.Module, storage: torch.dtype) -> dict[str, Any]:
    """Round every bias, and every norm's weight, of a model in place; returns what became of them.

    Returns:
        `vectors` that were rounded and their `vector_values`; `vector_error`, their root mean squared error over their
        root mean square; `vectors_left`, which would lose more than `LARGEST_ERROR`.
    """
    rounded, values, left, error, energy = 0, 0, 0, 0.0, 0.0
    for vector in _vectors(module):
        near = round_vector(vector, storage)
        squares = vector.cpu().double().square().sort().values
        usual = squares[: len(squares) - max(1, round(OUTLIERS * len(squares)))]
        off = float((near.cpu().double() - vector.cpu().double()).square().sum())
        if off > LARGEST_ERROR**2 * float(usual.mean()) * len(squares):
            left += 1
            continue
        vector.copy_(near)
        rounded, values = rounded + 1, values + len(squares)
        error, energy = error + off, energy + float(squares.sum())
    relative = math.sqrt(error / energy) if energy else 0.0
    return {"vectors": rounded, "vector_values": values, "vector_error": relative, "vectors_left": left}


def _vectors(module: nn.Module) -> Iterator[Tensor]:
    """Biases and norms' weights, each once; not steps and scales, which belong to their matrices."""
    for name, parameter in module.named_parameters():
        key = name.rpartition(".")[2]
        long = parameter.dim() == 1 and parameter.numel() >= LEAST_VALUES and parameter.is_floating_point()
        if long and (key == "weight" or key.endswith("bias")):
            yield parameter
