"""Sort the rows of a large segment into lists about centroids, so that a search looks at the nearest lists alone.

Beside a segment of N vectors of D dimensions lies `segment-<generation>.lists`:

    centroids   L × D float32
    starts      L + 1 int64: where in `order` each list begins, and N
    order       N uint32: the rows of the segment, list by list

It is a function of the segment, which never changes, and goes with it. faiss (extra `faiss`) finds the centroids; a
search reads these files alone and compares the vectors of the chosen lists exactly.

Source: Jégou et al., "Product Quantization for Nearest Neighbor Search" (2011), section IV: the inverted file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.atomic import new_directory
from rcc.errors import UserError
from rcc.store.filters import Condition
from rcc.store.schema import Vectors
from rcc.store.search import Places, exactly
from rcc.store.segment import BLOCK, Segment, mapped

LEAST_ROWS = 1_000_000
"""Rows of a segment from which on lists are worth their making; fewer are compared one and all in a few milliseconds.
"""
END = ".lists"
SAMPLES, ROUNDS = 64, 10
"""Of the clustering: vectors a list that are looked at, and rounds."""
PROBES = 16
"""Lists that are looked at, unless said."""
CENTROIDS, STARTS, ORDER = "centroids", "starts", "order"
NEEDS_FAISS = "store.index=faiss needs faiss-cpu, which is not installed: pip install 'rcc[faiss]'."


class Lists:
    """The read side.

    Raises:
        UserError: a file is missing, or not as long as the segment says.
    """

    def __init__(self, place: Path, rows: int, dimensions: int) -> None:
        self._place, self._rows = place, rows
        self.starts: NDArray[np.int64] = mapped(place / STARTS, np.dtype("<i8"), None)
        self.centroids: Vectors = mapped(place / CENTROIDS, np.dtype("<f4"), (len(self.starts) - 1, dimensions))
        self._order: NDArray[np.uint32] = mapped(place / ORDER, np.dtype("<u4"), (rows,))

    def __len__(self) -> int:
        return len(self.centroids)

    @cached_property
    def order(self) -> NDArray[np.uint32]:
        """The rows, list by list.

        Raises:
            UserError: it names rows that there are not.
        """
        starts = self.starts
        sound = starts[0] == 0 and starts[-1] == self._rows and (np.diff(starts) >= 0).all()
        if not sound or int(self._order.max()) >= self._rows:
            raise UserError(f"{self._place} is damaged: remove it, and job=index store.index=faiss makes it again.")
        return self._order

    def rows_near(self, query: Vectors, probes: int) -> Places:
        """The rows of the lists whose centroids are nearest to a query (D,), in rising order."""
        order, scores = self.order, self.centroids @ query
        chosen = np.argpartition(-scores, min(probes, len(self)) - 1)[:probes]
        return np.sort(np.concatenate([order[self.starts[each] : self.starts[each + 1]] for each in chosen])).astype(
            np.int64
        )


def lists_of(folder: Path, segment: Segment) -> Lists | None:
    """The lists of a segment; None where it has none."""
    place = folder / f"{segment.entry.name}{END}"
    return Lists(place, len(segment), segment.vectors.shape[1]) if place.is_dir() else None


def check_installed() -> None:
    """Refuse to begin without faiss.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("faiss") is None:
        raise UserError(NEEDS_FAISS)


def write_lists(folder: Path, segment: Segment) -> int:
    """Sort the rows of a segment into about √N lists, and write them; returns how many.

    Raises:
        UserError: faiss is not installed.
        WorkError: the disk is full or fails.
    """
    check_installed()
    import faiss

    rows, dimensions = segment.vectors.shape
    count = max(1, round(math.sqrt(rows)))
    clusters = faiss.Kmeans(dimensions, count, niter=ROUNDS, seed=0, spherical=True, min_points_per_centroid=1)
    chosen = np.random.default_rng(0).choice(rows, min(rows, SAMPLES * count), replace=False)
    clusters.train(np.ascontiguousarray(segment.vectors[np.sort(chosen)], np.float32))
    nearest = np.concatenate(
        [
            clusters.index.search(np.ascontiguousarray(segment.vectors[start : start + BLOCK]), 1)[1][:, 0]
            for start in range(0, rows, BLOCK)
        ]
    )
    starts = np.concatenate([[0], np.cumsum(np.bincount(nearest, minlength=count))])
    with new_directory(folder / f"{segment.entry.name}{END}") as place:
        (place / CENTROIDS).write_bytes(np.asarray(clusters.centroids, "<f4").tobytes())
        (place / STARTS).write_bytes(starts.astype("<i8").tobytes())
        (place / ORDER).write_bytes(np.argsort(nearest, kind="stable").astype("<u4").tobytes())
    return count


def nearest_by_lists(
    segment: Segment, lists: Lists, queries: Vectors, top_k: int, conditions: Sequence[Condition], probes: int
) -> tuple[Places, Vectors]:
    """As `rcc.store.search.nearest`, among the rows of the `probes` lists whose centroids are nearest to each query;
    where fewer than `top_k` of these meet the conditions, among all rows that do."""
    kept = segment.chosen(conditions)
    count = len(segment) if kept is None else len(kept)
    mask: Any = None
    if kept is not None:
        mask = np.zeros(len(segment), bool)
        mask[kept] = True
    found = []
    for query in queries:
        rows = lists.rows_near(query, probes)
        rows = rows if mask is None else rows[mask[rows]]
        enough = len(rows) >= min(top_k, count)
        found.append(exactly(segment, query[None], top_k, rows if enough else kept))
    return np.concatenate([places for places, _ in found]), np.concatenate([scores for _, scores in found])
