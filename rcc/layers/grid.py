"""Hold matrices whose rows are whole multiples of a step: 8 bits a value and a step a row describe them exactly."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127


def to_grid(matrix: Tensor, step: Tensor) -> Tensor:
    """The whole numbers q in [-127, 127] (int8) with matrix = step[:, None] * q, for a matrix (rows, columns).

    Args:
        matrix: on the grid of `step`: each value is the product as its own dtype rounds it.
        step: (rows,), each above zero.

    Raises:
        ValueError: a step that is not a positive finite number, or a value that is no multiple of its row's step.
    """
    if not bool(((step > 0) & torch.isfinite(step)).all()):
        raise ValueError("a quantisation step is not a positive finite number")
    wide = _wide(step)
    whole = (matrix.to(wide) / step.to(wide)[:, None]).round_()
    on_grid = (whole * step.to(wide)[:, None]).to(matrix.dtype) == matrix
    on_grid &= whole.abs() <= LARGEST
    if not bool(on_grid.all()):
        raise ValueError(
            f"{int((~on_grid).sum())} of {matrix.numel()} values are not whole multiples, up to {LARGEST}, of their "
            "row's quantisation step"
        )
    return whole.to(torch.int8)


def from_grid(whole: Tensor, step: Tensor) -> Tensor:
    """step[:, None] * whole (rows, columns) in the dtype of `step`; the product is taken in float32 at least."""
    wide = _wide(step)
    return (whole.to(wide) * step.to(wide)[:, None]).to(step.dtype)


def _wide(step: Tensor) -> torch.dtype:
    return torch.promote_types(step.dtype, torch.float32)
