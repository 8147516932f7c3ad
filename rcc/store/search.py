"""Find the nearest vectors of segments: exactly, or by their codes first and exactly among the nearest of those."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcc.store.filters import Condition
from rcc.store.schema import Vectors
from rcc.store.segment import BLOCK, Segment, codes_of

EXACT, CODES, LISTS = "exact", "codes", "lists"
METHODS = (EXACT, CODES, LISTS)
CANDIDATES = 20
"""Times as many rows as are asked for, and `LEAST` at least, whose vectors are compared after their codes, unless said.
"""
LEAST = 200
Places = NDArray[np.int64]


def nearest(
    segment: Segment, queries: Vectors, top_k: int, conditions: Sequence[Condition], candidates: int | None
) -> tuple[Places, Vectors]:
    """For each query (Q, D) the rows of the `top_k` highest cosines among those that meet the conditions, and these
    cosines, (Q, K) each in falling order, of equal ones the first row first; K ≤ top_k is alike for all queries.

    Args:
        candidates: how many rows of the nearest codes are compared; None compares all.
    """
    rows = segment.chosen(conditions)
    count = len(segment) if rows is None else len(rows)
    if count == 0:
        return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    if candidates is not None and count > candidates:
        found = [_by_codes(segment, query, top_k, rows, candidates) for query in queries]
        return np.stack([places for places, _ in found]), np.stack([scores for _, scores in found])
    return exactly(segment, queries, top_k, rows)


def usual_candidates(top_k: int) -> int:
    """How many rows are compared after their codes where nobody says."""
    return max(LEAST, CANDIDATES * top_k)


def exactly(segment: Segment, queries: Vectors, top_k: int, rows: Places | None) -> tuple[Places, Vectors]:
    """As `nearest`, among the rows that are given; None for all."""
    count = len(segment) if rows is None else len(rows)
    places, scores = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    for start in range(0, count, BLOCK):
        within = np.arange(start, min(start + BLOCK, count)) if rows is None else rows[start : start + BLOCK]
        block = segment.vectors[start : start + BLOCK] if rows is None else segment.vectors[within]
        of_block = queries @ block.T
        places = np.concatenate([places, np.broadcast_to(within, of_block.shape)], axis=1)
        scores = np.concatenate([scores, of_block], axis=1)
        places, scores = best(places, scores, top_k)
    return places, scores


def _by_codes(
    segment: Segment, query: Vectors, top_k: int, rows: Places | None, candidates: int
) -> tuple[Places, Vectors]:
    (code,) = codes_of(query[None], segment.mean)
    codes = segment.codes if rows is None else segment.codes[rows]
    apart = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.uint32)
    near = np.argpartition(apart, candidates - 1)[:candidates]
    within = np.sort(near if rows is None else rows[near])
    places, scores = best(within[None], (segment.vectors[within] @ query)[None], top_k)
    return places[0], scores[0]


def best(places: Places, scores: Vectors, top_k: int) -> tuple[Places, Vectors]:
    """The `top_k` highest scores of each row with their places, in falling order; of equal ones the lowest place."""
    if scores.shape[1] > 4 * top_k:
        # All that may be among the first, ties at the last of them included, are few: only those are put in order.
        last = np.partition(scores, scores.shape[1] - top_k, axis=1)[:, [scores.shape[1] - top_k]]
        kept = (scores >= last).sum(axis=1).max()
        order = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
        places, scores = np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)
    order = np.lexsort((places, -scores), axis=1)[:, :top_k]
    return np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1)
