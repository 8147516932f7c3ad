"""Round biases and norms to the multiples of one step a vector, which an artifact keeps in a byte a value.

The step has four significant bits (`rcc.layers.grid.step_for`), so that step · q is exact in float16 and the artifact
finds the grid in the values themselves (`rcc.artifact.vectors`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rcc.layers.grid import round_vector

BITS = 8
LEAST_VALUES = 16
"""Shorter vectors would take no fewer bytes."""
LARGEST_ERROR, OUTLIERS = 0.02, 1 / 16
"""Root mean square of the errors over that of the values without such a share of them, the largest, beyond which a
vector is left as it is: one with an outlier, whose step is too coarse for the others. Of Gaussian values it is 0.01."""


def foreseen(name: str, values: Tensor, storage: torch.dtype) -> Tensor:
    """What `round_vectors` makes of the tensor of that name: a bias or a norm rounded, anything else as it is."""
    return _rounded(values, storage) if _is_vector(name, values) else values


@torch.no_grad()
def round_vectors(module: nn.Module, storage: torch.dtype) -> dict[str, Any]:
    """Round every bias, and every norm's weight, of a model in place; returns what became of them.

    Returns:
        `vectors` that were rounded and their `vector_values`; `vector_error`, their root mean squared error over their
        root mean square; `vectors_left`, which would lose more than `LARGEST_ERROR`.
    """
    rounded, values, left, error, energy = 0, 0, 0, 0.0, 0.0
    for name, vector in module.named_parameters():
        if not _is_vector(name, vector):
            continue
        near = _rounded(vector, storage)
        if near is vector:
            left += 1
            continue
        rounded, values = rounded + 1, values + vector.numel()
        error, energy = error + _energy(near.double() - vector.double()), energy + _energy(vector)
        vector.copy_(near)
    relative = math.sqrt(error / energy) if energy else 0.0
    return {"vectors": rounded, "vector_values": values, "vector_error": relative, "vectors_left": left}


def _rounded(vector: Tensor, storage: torch.dtype) -> Tensor:
    """The vector rounded, or itself where that would lose more than `LARGEST_ERROR`."""
    near = round_vector(vector, storage)
    squares = vector.cpu().double().square().sort().values
    usual = squares[: len(squares) - max(1, round(OUTLIERS * len(squares)))]
    lost = _energy(near.double() - vector.double())
    return vector if lost > LARGEST_ERROR**2 * float(usual.mean()) * len(squares) else near


def _energy(values: Tensor) -> float:
    return float(values.double().square().sum())


def _is_vector(name: str, tensor: Tensor) -> bool:
    """Whether it is a bias or a norm's weight, and long enough; steps and scales belong to their matrices."""
    key = name.rpartition(".")[2]
    long = tensor.dim() == 1 and tensor.numel() >= LEAST_VALUES and tensor.is_floating_point()
    return long and not tensor.is_meta and (key == "weight" or key.endswith("bias"))
