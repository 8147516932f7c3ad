"""Estimate from the histogram of whole numbers what encoding them takes, and which of them are outliers."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

HUFFMAN_LOSS, DENSE_TABLES, SPARSE_TABLES, MANY_ZEROS, TABLES_SHARE = 0.008, 40, 95, 0.5, 0.15
"""Measured: what whole bits for each byte lose, the bytes of tables and frames of one part of values and of an index
with values, the share of zeros from which the latter is smaller, and the most that tables take of little."""
BODIES = (1, 2, 3, 5, 7)
"""Largest magnitudes of the numbers that are no outliers, so that 5, 3 or 2 of them lie in a byte."""
WORTH, NEAR = 1.1, 1.03
"""What outliers apart may be estimated to take at most: of the entropy of all, about what codes of single numbers take
at worst; and of what the best of `BODIES` is, as far as the estimate is off where rows differ."""


def coded_bytes(whole: Tensor) -> int:
    """What `rcc.layers.encoding.encode(whole, 'zstd')` takes in bytes, of whole numbers (int8), by their histogram.

    Within 2 % for thousands of values or more that lie at random: the empirical entropy of order 0, what Huffman codes
    lose, and the tables. Values that lie in an order (whole rows of zeros) take fewer.
    """
    counts = np.bincount(whole.detach().cpu().numpy().reshape(-1).view(np.uint8), minlength=256)
    return math.ceil(coded_bytes_of(counts, counts[0]))


def coded_bytes_of(counts: np.ndarray, zeros: float) -> float:
    """What `coded_bytes` gives, of numbers that occur so often each, zero `zeros` times; counts may be fractions."""
    total = float(counts.sum())
    found = counts[counts > 0]
    if len(found) < 2:
        return 0.0
    entropy = -float((found * np.log2(found / total)).sum()) / 8
    few = len(found) <= 3  # signs need no table
    tables = DENSE_TABLES if few or zeros < MANY_ZEROS * total else SPARSE_TABLES
    return min(total, entropy * (1 + HUFFMAN_LOSS) + min(tables, TABLES_SHARE * entropy))


def bodies(counts: np.ndarray) -> list[int]:
    """Magnitudes beyond which whole numbers may be outliers, of those in `BODIES` the ones at which all are to take
    about the fewest bytes; none where there is nothing to gain by it.

    Args:
        counts: (256,), how often each int8 occurs, by its bits as an unsigned byte.
    """
    sizes = np.abs(np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int16))

    def bytes_of(largest: int) -> float:
        far = counts[sizes > largest]
        body = np.where(sizes > largest, 0, counts)
        body[0] += far.sum()
        # Each of k places at random among n takes log₂(n / k) + log₂ e bits.
        index = float(far.sum()) * math.log2(math.e * counts.sum() / far.sum()) / 8
        return coded_bytes_of(body, float(body[0])) + index + coded_bytes_of(far, 0.0)

    found = {largest: bytes_of(largest) for largest in BODIES if counts[sizes > largest].any()}
    most = min(NEAR * min(found.values(), default=0.0), WORTH * coded_bytes_of(counts, float(counts[0])))
    return [largest for largest, nbytes in found.items() if nbytes <= most]
