"""Make the stored values of a held model cheaper to code, until they take no more bytes than they may.

Training does not know what a bit costs: of the whole numbers that it changes more become larger, which are rarer and
take longer codes, than become smaller. A number is let grow only where its latent went well beyond the border, by a
margin that is as small as it can be. Matrices that are not whole numbers lose the last bits of their mantissas instead.
Beyond level 1/2 vectors are as they were, at level 1 all is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

PROBES = 7
"""Halvings of the level's interval."""
VECTORS = 0.5
"""The level beyond which vectors are as they were."""
MOST_BITS = 6
"""Of a mantissa, those that the highest level leaves out."""


def least_level(fits: Callable[[float], bool]) -> float:
    """The least level in [0, 1], to within 1/128, of which `fits` says that it is enough; 1 where none is.

    `fits` is asked last for the level that is returned, so that what it did is what is there.
    """
    if fits(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(PROBES):
        middle = (low + high) / 2
        if fits(middle):
            high = middle
        else:
            low = middle
    fits(high)
    return high


def with_fewer_raised(latent: Tensor, before: Tensor, level: float) -> Tensor:
    """The nearest whole numbers to `latent`, in steps; zeros of `before` are zeros.

    A number that is larger in magnitude than it was, in `before` (int8), is one less where the latent is not beyond the
    border between the two by `level` of a step. None is larger than the largest of `before`.
    """
    largest = int(before.abs().max()) if before.numel() else 0
    whole = latent.round().clamp_(-largest, largest)
    size = whole.abs()
    back = (size > before.abs()) & (latent.abs() < size - 0.5 + level)
    whole = torch.where(back, (size - 1) * whole.sign(), whole)
    return whole.masked_fill_((before == 0) | (whole == 0), 0.0)  # no negative zero, which is stored as a value


def with_shorter_mantissas(values: Tensor, level: float, storage: torch.dtype) -> Tensor:
    """The nearest numbers to `values`, in their dtype, whose last ⌈6 · level⌉ bits in `storage` are zero."""
    kept = values.to(storage)
    bits = math.ceil(MOST_BITS * level)
    if not bits:
        return kept.to(values.dtype)
    mantissa, exponent = torch.frexp(kept.float())
    scale = 2.0 ** (1 - round(math.log2(torch.finfo(storage).eps)) - bits)
    shorter = torch.ldexp((mantissa * scale).round_() / scale, exponent).to(storage)
    return torch.where(torch.isfinite(shorter), shorter, kept).to(values.dtype)
