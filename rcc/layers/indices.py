"""Index the non-zeros of a sparse matrix in three ways: a bitmask, gaps of 8 bits, and compressed rows (CSR).

All take a matrix (rows, columns) as one bool a position, in row-major order. Byte order is little-endian.

- bitmask: one bit a position, the first in the most significant bit of the first byte.
- gaps: for each value the zeros before it, counted on from row to row, as one byte; a byte of 255 stands for
  255 zeros and no value, so that a gap g is g // 255 such bytes and then g % 255. Zeros at the end are not stored.
- csr: the number of values of each row, then the column of each value, both as the smallest unsigned integers
  that hold any count (0 … columns) and any column (0 … columns - 1); matrices of up to 65536 columns.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from rcc.layers.entropy import Buffer

INDICES = ("bitmask", "gaps", "csr")
ESCAPE = 255
MOST_CSR_COLUMNS = 1 << 16
assert sys.byteorder == "little", "the encodings are written for little-endian machines"


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) as which a tensor's positions are indexed: the first dimension and all the others."""
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def count_escapes(present: np.ndarray) -> int:
    """The number of bytes of 255 among the gaps."""
    return int((_gaps(np.flatnonzero(present)) // ESCAPE).sum())


def index_lengths(index: str, rows: int, columns: int, nonzeros: int, escapes: int) -> tuple[int, ...]:
    """Raw bytes of each part of an index."""
    if index == "bitmask":
        return (-(-rows * columns // 8),)
    if index == "gaps":
        return (nonzeros + escapes,)
    counts, indices = _csr_types(columns)
    return rows * counts.itemsize, nonzeros * indices.itemsize


def pack_index(index: str, present: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, ...]:
    """The parts, as bytes, of an index of where `present` (rows * columns,) is true."""
    if index == "bitmask":
        return (np.packbits(present),)
    positions = np.flatnonzero(present)
    if index == "gaps":
        escapes, rest = np.divmod(_gaps(positions), ESCAPE)
        # All bytes begin as escapes; the last byte of each gap holds what is left of it.
        packed = np.full(len(positions) + int(escapes.sum()), ESCAPE, np.uint8)
        packed[np.cumsum(escapes + 1) - 1] = rest
        return (packed,)
    counts, indices = _csr_types(columns)
    row, column = np.divmod(positions, max(columns, 1))
    return (
        np.bincount(row, minlength=rows).astype(counts).view(np.uint8),
        column.astype(indices).view(np.uint8),
    )


def unpack_index(index: str, parts: Sequence[Buffer], rows: int, columns: int, nonzeros: int) -> np.ndarray:
    """The flat positions that hold a value, sorted (nonzeros,).

    Raises:
        ValueError: the parts are no index of `nonzeros` values in a matrix of this shape.
    """
    if index == "bitmask":
        return _unpack_bitmask(parts[0], rows * columns, nonzeros)
    positions = _unpack_gaps(parts[0]) if index == "gaps" else _unpack_csr(parts[0], parts[1], columns)
    if len(positions) != nonzeros:
        raise ValueError(f"has an index that marks {len(positions)} values where {nonzeros} are declared")
    if nonzeros and int(positions[-1]) >= rows * columns:
        raise ValueError(f"has an index that reaches beyond its {rows * columns} positions")
    return positions


def _unpack_bitmask(part: Buffer, numel: int, nonzeros: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(part, np.uint8)).view(np.bool_)
    present = bits[:numel]
    found = int(np.count_nonzero(present))
    if found != nonzeros:
        raise ValueError(f"has an index that marks {found} values where {nonzeros} are declared")
    if bits[numel:].any():
        raise ValueError(f"has an index that reaches beyond its {numel} positions")
    return np.flatnonzero(present)  # setting values by positions is many times as fast as by a mask


def _unpack_gaps(part: Buffer) -> np.ndarray:
    packed = np.frombuffer(part, np.uint8)
    valued = packed != ESCAPE
    if len(packed) and not valued[-1]:
        raise ValueError("has gaps that end without a value")
    # Each byte goes on by the zeros it stands for, and that of a value by the value's own place as well.
    steps = packed.astype(np.int64)
    steps += valued
    return np.cumsum(steps)[valued] - 1


def _unpack_csr(counts_part: Buffer, columns_part: Buffer, columns: int) -> np.ndarray:
    count_type, index_type = _csr_types(columns)
    counts = np.frombuffer(counts_part, count_type).astype(np.int64)
    column = np.frombuffer(columns_part, index_type).astype(np.int64)
    if int(counts.sum()) != len(column):
        raise ValueError(f"has rows of {int(counts.sum())} values in all and {len(column)} columns")
    if len(column) and int(column.max()) >= columns:
        raise ValueError(f"has a column {int(column.max())} where there are {columns}")
    # Positions that only rise are in the order of the values, and hold none twice.
    positions = np.repeat(np.arange(len(counts)) * columns, counts) + column
    if not bool((np.diff(positions) > 0).all()):
        raise ValueError("has columns that are not in order")
    return positions


def _gaps(positions: np.ndarray) -> np.ndarray:
    return np.diff(positions, prepend=-1) - 1


def _csr_types(columns: int) -> tuple[np.dtype, np.dtype]:
    return np.min_scalar_type(columns), np.min_scalar_type(max(columns - 1, 0))
