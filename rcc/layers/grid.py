"""Hold matrices whose rows are whole multiples of a step: 8 bits a value and a step a row describe them exactly.

Vectors lie on grids of two more kinds: the powers 2^(k / 8), as steps do, and the multiples of one step for all.
"""

from __future__ import annotations

import math

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


POWERS_PER_OCTAVE = 8
"""Powers on the logarithmic grid between a number and its double."""
_MANTISSAS = (
    1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096,
    1.4142135623730951, 1.5422108254079407, 1.681792830507429, 1.8340080864093424,
)  # fmt: skip
"""2^(i / 8) in float64, written out so that no library's rounding decides a bit of a step."""
MOST_EXPONENT = 1000
LEAST_DIGIT, MOST_DIGIT = 8, 15
"""Steps of a vector have four significant bits. Times a number of seven, that is exact in the eleven of float16."""
LEAST_MULTIPLE = 113
"""The number that the largest value of a vector is at least a multiple by: 127 · 8 / 9."""


def powers(exponents: Tensor, dtype: torch.dtype) -> Tensor:
    """2^(k / 8) for whole numbers k in [-1000, 1000], rounded to `dtype`."""
    mantissas = torch.tensor(_MANTISSAS, dtype=torch.float64)
    whole = exponents.cpu().to(torch.int64)
    octaves = whole.div(POWERS_PER_OCTAVE, rounding_mode="floor")
    return torch.ldexp(mantissas[whole - octaves * POWERS_PER_OCTAVE], octaves).to(dtype).to(exponents.device)


def to_powers(values: Tensor) -> Tensor | None:
    """The k (int64) with values = 2^(k / 8) as their dtype rounds it, bit for bit; None where one is no such number."""
    if not len(values) or not bool(((values > 0) & torch.isfinite(values)).all()):
        return None
    exponents = (values.double().log2() * POWERS_PER_OCTAVE).round_().to(torch.int64)
    if int(exponents.abs().max()) > MOST_EXPONENT or not torch.equal(powers(exponents, values.dtype), values):
        return None
    return exponents


def step_for(values: Tensor) -> tuple[int, int] | None:
    """The least step d · 2^e, d in 8 … 15, of which 127 reach the largest of `values` (n,) as (d, e); None for zeros.

    float16 is exact down to 2^-24: there e is no less.
    """
    largest = float(values.abs().max()) if len(values) else 0.0
    if not 0 < largest < math.inf:
        return None
    mantissa, exponent = math.frexp(largest / LARGEST)  # in [1/2, 1)
    digit, exponent = math.ceil(mantissa * 2 * LEAST_DIGIT), exponent - 4
    if digit > MOST_DIGIT:
        digit, exponent = LEAST_DIGIT, exponent + 1
    return (LEAST_DIGIT, -24) if exponent < -24 else (digit, exponent)


def multiples(whole: Tensor, step: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """d · 2^e · whole for a step (d, e), rounded to `dtype`."""
    digit, exponent = step
    return (whole.cpu().double() * math.ldexp(digit, exponent)).to(dtype).to(whole.device)


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


def to_multiples(values: Tensor) -> tuple[Tensor, tuple[int, int]] | None:
    """Whole numbers in [-127, 127] (int8) and the step whose multiples `values` are, bit for bit; None where none is.

    Finds every vector that was rounded to the multiples of its `step_for`.
    """
    largest = float(values.abs().max()) if len(values) else 0.0
    if not 0 < largest < math.inf:
        return None
    _, low = math.frexp(largest / LARGEST)
    for exponent in (low - 5, low - 4, low - 3):
        for digit in range(LEAST_DIGIT, MOST_DIGIT + 1):
            step = math.ldexp(digit, exponent)
            if not LEAST_MULTIPLE - 1 <= largest / step <= LARGEST + 1 and exponent != -24:
                continue
            ratio = (values.double() / step).round_()
            if bool((ratio.abs() <= LARGEST).all()):
                whole = ratio.to(torch.int8)  # which has no negative zero
                if torch.equal(bits_of(multiples(whole, (digit, exponent), values.dtype)), bits_of(values)):
                    return whole, (digit, exponent)
    return None


def bits_of(values: Tensor) -> Tensor:
    """The bits of floating-point values as whole numbers, by which a negative zero differs from a positive one."""
    return values.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.dtype.itemsize])
