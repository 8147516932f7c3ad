"""Allocate a number of bytes among matrices by one Lagrangian: each gets the step at which one more byte is worth the
same everywhere.

Of every matrix a curve is measured: rounded to steps of f times the size (root mean square) of each row, for a range of
f, how many bits it takes and by how much the model's outputs move. The sum of damages under a number of bits is least
where all matrices have the same slope λ of damage against bits (Shoham & Gersho, "Efficient Bit Allocation for an
Arbitrary Set of Quantizers", IEEE TASSP 1988).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from rcc.layers.encoding import encode
from rcc.layers.estimate import coded_bytes_of
from rcc.layers.form import Form
from rcc.layers.grid import POWERS_PER_OCTAVE, powers, to_grid
from rcc.ops.grid import LEVELS, row_steps
from rcc.ops.rate import Rate, code_lengths, counts_of

Key = TypeVar("Key")
LEAST_FACTOR, MOST_FACTOR, PER_OCTAVE = 2.0**-5, 2.0**3, 2
"""Of a row's size: steps that are tried, so many an octave."""
FINE = 16
"""Steps an octave that a curve is read at between those that were measured."""
SAMPLED = 1 << 17
"""Values of a matrix that its curve is measured on: rows of a larger one, see `_sampled`."""
LEAST_ROWS = 256
"""Of a matrix that is sampled: of fewer rows each may count too differently."""
MOST_OFF = 4.0
"""Times by which a unit may take more, or fewer, bits than its curve says."""
TRIES, NEAR = 4, 0.02
"""How often a unit is rounded until it takes what it is given, and by what share of that it may be off."""


def row_sizes(matrix: Tensor) -> Tensor:
    """The root mean square of each row's values that are not zero, (rows,), float32; 0 of a row of zeros."""
    wide = matrix.float()
    return (wide.square().sum(1) / (wide != 0).sum(1).clamp_min(1)).sqrt()


def steps_at(matrix: Tensor, sizes: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """A step for each row of `matrix`: `factor` times its size, a power 2^(k / 8), which is cheap to store, and wide
    enough for its largest value to be one of `LEVELS`; 1 for a row of zeros. (rows,), float32, as `dtype` holds it."""
    largest = matrix.abs().amax(1).float()
    wanted = torch.maximum(sizes * factor, largest / LEVELS).clamp_min(2.0**-24)
    exponents = (wanted.log2() * POWERS_PER_OCTAVE).round_()
    steps = powers(exponents, dtype).float()
    # Rounding to the grid must not cut the largest value off.
    steps = torch.where(largest > steps * (LEVELS + 0.5), powers(exponents + 1, dtype).float(), steps)
    return torch.where(largest > 0, steps, 1.0)


@dataclass(frozen=True)
class Grid:
    """How matrices are rounded: to -levels … levels times a step that `storage` holds exactly, chosen by `clip`."""

    levels: int
    storage: torch.dtype
    clip: str
    rate: ClassVar[None] = None

    def steps(self, matrix: Tensor, importance: Tensor | None = None) -> Tensor:
        """A step for each row of `matrix`, in its dtype; `importance` as in `row_steps`.

        Sixteen-bit weights have steps of their own dtype: they could not hold others.
        """
        held = self.storage if matrix.dtype.itemsize > 2 else matrix.dtype
        return row_steps(matrix, self.levels, held, self.clip, importance).to(matrix.dtype)


@dataclass(frozen=True)
class Spaced:
    """How a matrix is rounded whose steps are `factor` times the `sizes` (rows,) of its rows, or by default times their
    root mean square: to numbers that are weighed by what they cost."""

    factor: float
    rate: Rate
    storage: torch.dtype
    sizes: Tensor | None = None
    levels: int = LEVELS

    def steps(self, matrix: Tensor, importance: Tensor | None = None) -> Tensor:
        """A step for each row of `matrix`, in its dtype."""
        held = self.storage if matrix.dtype.itemsize > 2 else matrix.dtype
        sizes = row_sizes(matrix) if self.sizes is None else self.sizes
        return steps_at(matrix, sizes, self.factor, held).to(matrix.dtype)


@dataclass(frozen=True)
class Curve:
    """Bits and damage of one matrix by the factor of its steps, both falling and rising with it.

    log_factors, bits, damage: (n,), float64; factors rise. `lengths` (n, 2 · 127 + 1): of the codes at each.
    sizes: of the rows, which steps are factors of; None: their root mean squares.
    """

    log_factors: np.ndarray
    bits: np.ndarray
    damage: np.ndarray
    lengths: Tensor
    sizes: Tensor | None = None

    @property
    def fine(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The curve read at `FINE` steps an octave: factors' logarithms, bits, damage."""
        low, high = self.log_factors[[0, -1]]
        points = np.linspace(low, high, 1 + round((high - low) * FINE))
        bits = PchipInterpolator(self.log_factors, self.bits)(points)
        damage = np.exp(PchipInterpolator(self.log_factors, np.log(np.maximum(self.damage, 1e-300)))(points))
        return points, bits, damage

    def bits_at(self, log_factor: float) -> float:
        return float(np.interp(log_factor, self.log_factors, self.bits))

    def log_factor_at(self, bits: float) -> float:
        return float(np.interp(-bits, -self.bits, self.log_factors))

    def rate_at(self, log_factor: float) -> Rate:
        """What numbers cost at the measured factor that is nearest."""
        return Rate(self.lengths[int(np.abs(self.log_factors - log_factor).argmin())])


def curve_of(matrix: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype, sizes: Tensor | None = None) -> Curve:
    """The curve of `matrix` (out, in), zeros kept.

    Args:
        rows: (out,), what a squared error of a row counts.
        columns: (in,) or (out, in), what one of a column counts, given that later ones make up for it.
        sizes: of the rows, which steps are factors of; by default their root mean squares.
    """
    places, standing = _sampled(matrix, rows)
    picked, rows = matrix[places].float(), rows[places].float() * standing
    columns = (columns if columns.dim() == 1 else columns[places]).float().clamp_min(1e-30)
    own = row_sizes(picked) if sizes is None else sizes[places]
    dearer = columns.log().mean(-1, keepdim=True).exp() / columns
    zero = picked == 0
    count = 1 + round(math.log2(MOST_FACTOR / LEAST_FACTOR) * PER_OCTAVE)
    logs = np.linspace(math.log2(LEAST_FACTOR), math.log2(MOST_FACTOR), count)
    bits, damage, lengths = [], [], []
    for log in logs:
        step = steps_at(picked, own, 2.0**log, dtype)[:, None]
        scaled = picked / step
        counts = counts_of(scaled.round().clamp_(-LEVELS, LEVELS), LEVELS, standing)
        whole = Rate(code_lengths(counts)).round(scaled, dearer).masked_fill_(zero, 0.0)
        counts = counts_of(whole, LEVELS, standing)
        errors = (picked - whole * step).square_().mul_(columns).sum(1)
        bits.append(8 * coded_bytes_of(counts.numpy(), float(counts[LEVELS])))
        damage.append(0.5 * float((errors * rows).sum(dtype=torch.float64)))
        lengths.append(code_lengths(counts))
    return Curve(logs, np.array(bits), np.array(damage), torch.stack(lengths), sizes)


def _sampled(matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of `matrix` that a curve is measured on, and how many rows each stands for: all, or of a large matrix
    those that count most each for itself, and of the others every so many in the order of what they count.

    A few hundred tokens make up most of what a table of tens of thousands counts: every so many rows as they come would
    miss them or take one for all.
    """
    count = max(LEAST_ROWS, SAMPLED // matrix.shape[1])
    if len(matrix) <= count:
        return torch.arange(len(matrix), device=matrix.device), torch.ones(len(matrix), device=matrix.device)
    order = (rows.to(matrix.device) * row_sizes(matrix).square()).argsort(descending=True, stable=True)
    first, rest = order[: count // 2], order[count // 2 :]
    stride = math.ceil(len(rest) / (count - count // 2))
    others = rest[stride // 2 :: stride]
    standing = torch.ones(len(first) + len(others), device=matrix.device)
    standing[len(first) :] = len(rest) / len(others)
    return torch.cat((first, others)), standing


def allocate(curves: Mapping[Key, Curve], bits: float) -> dict[Key, float]:
    """The logarithm of each matrix's factor, by name, at which all take `bits` together and the damage is least; the
    finest or the coarsest there are where they cannot take as many or as few."""
    fine = {name: curve.fine for name, curve in curves.items()}

    def chosen(price: float) -> dict[Key, int]:
        return {name: int(np.argmin(damage + price * own)) for name, (_, own, damage) in fine.items()}

    def taken(places: Mapping[Key, int]) -> float:
        return sum(float(fine[name][1][place]) for name, place in places.items())

    low, high = 1e-30, 1e6
    for _ in range(120):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if taken(chosen(middle)) > bits else (low, middle)
    places = chosen(high)
    return shifted(curves, {name: float(fine[name][0][place]) for name, place in places.items()}, bits)


def shifted(curves: Mapping[Key, Curve], log_factors: Mapping[Key, float], bits: float) -> dict[Key, float]:
    """`log_factors` all moved by one number, so that the matrices take `bits` together, as near as their ranges let."""

    def moved(by: float) -> dict[Key, float]:
        limits = {name: curves[name].log_factors[[0, -1]] for name in log_factors}
        return {name: float(np.clip(log + by, *limits[name])) for name, log in log_factors.items()}

    low, high = -8.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        found = sum(curves[name].bits_at(log) for name, log in moved(middle).items())
        low, high = (middle, high) if found > bits else (low, middle)
    return moved(high)


class Allotment:
    """The bytes due, and what of them is left while one unit after the other is rounded.

    Each unit is to take the bits that the allocation gives it. Rounding with feedback takes others than a curve says,
    which is of values rounded by themselves: it is done again with other steps until it is near enough, and what is
    left over is shared among the units to come.

    Args:
        curves: by the names of unit and matrix.
    """

    def __init__(self, curves: Mapping[tuple[str, str], Curve], nbytes: int, storage: torch.dtype) -> None:
        self.curves, self.storage = dict(curves), storage
        self.left = 8.0 * nbytes
        factors = allocate(self.curves, self.left) if curves else {}
        self.planned = {key: self.curves[key].bits_at(log) for key, log in factors.items()}
        self._taken, self._expected = 0.0, 0.0

    @property
    def taken(self) -> int:
        """Bytes that all rounded so far take."""
        return round(self._taken / 8)

    def rounded(
        self, unit: str, names: Iterable[str], even: Grid, round_with: Callable[[Mapping[str, Grid | Spaced]], Form]
    ) -> tuple[Form, int]:
        """A unit as `round_with` makes it of how its matrices `names` are rounded, and the bytes of its whole numbers.

        Those that no batch reached, which have no curve, are rounded `even`ly.
        """
        keys = [(unit, name) for name in names]
        known = [key for key in keys if key in self.planned]
        total = sum(self.planned.values())
        scale = self.left / total if total else 1.0  # a target below the coarsest steps plans no bits at all
        share = sum(self.planned[key] for key in known) * scale
        off = _times_as_many(self._taken, self._expected)
        for _ in range(TRIES):
            logs = {key: self.curves[key].log_factor_at(self.planned[key] * scale / off) for key in known}
            grids: dict[str, Grid | Spaced] = {
                key[1]: self._spaced(key, logs[key]) if key in logs else even for key in keys
            }
            form = round_with(grids)
            nbytes = sum(coded(form, name) for _, name in keys)
            expected = sum(self.curves[key].bits_at(log) for key, log in logs.items())
            near = abs(8 * nbytes - share) <= NEAR * share
            at_end = all(log in self.curves[key].log_factors[[0, -1]] for key, log in logs.items())
            if not known or near or at_end:
                break
            off = _times_as_many(8 * nbytes, expected)
        self._taken += 8 * nbytes
        self._expected += expected
        self.left -= 8 * nbytes
        for key in known:
            del self.planned[key]
        return form, nbytes

    def _spaced(self, key: tuple[str, str], log: float) -> Spaced:
        curve = self.curves[key]
        return Spaced(2.0**log, curve.rate_at(log), self.storage, curve.sizes)


def _times_as_many(taken: float, expected: float) -> float:
    """How many times the bits that were expected were taken, within what a curve can be off by; 1 of none."""
    return min(max(taken / expected, 1 / MOST_OFF), MOST_OFF) if expected else 1.0


def coded(form: Form, name: str) -> int:
    """The bytes of the whole numbers of a matrix that is on its grid."""
    return encode(to_grid(getattr(form, name), getattr(form, f"{name}_step")), "zstd").nbytes
