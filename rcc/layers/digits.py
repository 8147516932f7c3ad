"""Pack whole numbers of few levels into bytes: as many digits of one base as a byte holds.

Entropy coding works on bytes. A code of single values spends whole bits on each, which at two or three bits of entropy
loses several percent; of several values in a byte it loses that once for all of them.
"""

from __future__ import annotations

import numpy as np

Span = tuple[int, int]
"""The least and the largest of the numbers that are packed."""
LEAST, LARGEST = -128, 127
_BYTE = 256


def alphabet(span: Span, zero: bool) -> np.ndarray:
    """The numbers from the least to the largest (base,), int8: digit d stands for the d-th.

    Args:
        zero: whether 0 is one of them where the span includes it; the non-zeros of a sparse matrix do without.
    """
    numbers = np.arange(span[0], span[1] + 1)
    return (numbers if zero else numbers[numbers != 0]).astype(np.int8)


def per_byte(base: int) -> int:
    """How many digits of `base` a byte holds: 8 of base 2, 5 of 3, 3 of 5 and 6, 2 of 7 to 16, 1 of more."""
    count = 1
    while base > 1 and base ** (count + 1) <= _BYTE:
        count += 1
    return count


def packed_length(count: int, base: int) -> int:
    """Bytes of `count` digits; those of a single number take none."""
    return 0 if base == 1 else -(-count // per_byte(base))


def pack_digits(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Values (n,), int8, each one of `numbers` (base,), as bytes (`packed_length`,).

    The first value of a byte is its most significant digit; digits of 0 fill the last byte.
    """
    base, each = len(numbers), per_byte(len(numbers))
    if base == 1:
        return np.empty(0, np.uint8)
    digit = np.zeros(_BYTE, np.uint8)
    digit[numbers.view(np.uint8)] = np.arange(base)
    padded = np.zeros(packed_length(len(values), base) * each, np.uint8)
    padded[: len(values)] = digit[values.view(np.uint8)]
    columns = padded.reshape(-1, each).T
    packed = columns[0].copy()
    for column in columns[1:]:
        packed *= np.uint8(base)
        packed += column
    return packed


def unpack_digits(part: bytes | memoryview, count: int, numbers: np.ndarray) -> np.ndarray:
    """The `count` values (int8) that `pack_digits` was given.

    Raises:
        ValueError: the bytes are none that it writes.
    """
    base, each = len(numbers), per_byte(len(numbers))
    if base == 1:
        return np.full(count, numbers[0], np.int8)
    packed = np.frombuffer(part, np.uint8)
    highest = base**each - 1
    if len(packed) and int(packed.max()) > highest:
        raise ValueError(f"has a byte {int(packed.max())} among its digits of base {base}, which end at {highest}")
    filling = len(packed) * each - count
    if filling and int(packed[-1]) % base**filling:
        raise ValueError(f"has digits beyond its {count} values")
    places = base ** np.arange(each - 1, -1, -1)
    values = numbers[np.arange(highest + 1)[:, None] // places % base]
    # A row of the table is moved as one item: several times as fast as value by value.
    rows = values.view(np.dtype((np.void, each))).reshape(-1)
    return rows.take(packed).view(np.int8)[:count]
