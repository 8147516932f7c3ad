"""Bootstrap statistics of sums over clusters of items, such as the captions of an image, with BCa intervals.

Every statistic here is a function of sums over clusters. A resample is then known by how often it draws each *distinct*
cluster, and all statistics of it by one matrix product; leaving a cluster out is a subtraction. scipy.stats.bootstrap,
with which the tests compare, draws items anew for each statistic, and its jackknife takes N × N values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.measurement.interval import LEVEL, Interval

RESAMPLES = 2000
BLOCK = 2**21  # draws that exist at a time
MANY = 8  # clusters of a kind, on average, from which counting kinds is faster than drawing clusters

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From sums over clusters (…, M) to statistics (…, K)."""


def bootstrap_intervals(
    clusters: NDArray[Any], statistic: Statistic, level: float = LEVEL, seed: int = 0, resamples: int = RESAMPLES
) -> list[Interval]:
    """BCa intervals of the K statistics of the sums over N clusters, which are drawn whole.

    The interval of a statistic that no resample changes is that number alone: a bootstrap cannot draw what no cluster
    shows, so callers take the hull with an interval that knows the range of the values.

    Args:
        clusters: (N, M) what each cluster adds to the M sums.
        statistic: from sums (…, M) to statistics (…, K).

    Source: Efron, "Better bootstrap confidence intervals", JASA 82 (1987); of clusters, Davison and Hinkley, "Bootstrap
    methods and their application" (1997), section 3.8.
    """
    rows, counts = np.unique(np.asarray(clusters, dtype=np.float64), axis=0, return_counts=True)
    total, clustered = counts @ rows, int(counts.sum())
    found = statistic(total)
    drawn = [statistic(draws @ rows) for draws in _draws(counts, resamples, np.random.default_rng(seed))]
    without = statistic(total - rows) if clustered > 1 else np.broadcast_to(found, (1, len(found)))
    ends = zip(np.concatenate(drawn).T, found, without.T, strict=True)
    return [_bca(each, float(value), left_out, counts, level) for each, value, left_out in ends]


def _draws(counts: NDArray[np.int64], resamples: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each resample draws each kind of cluster, of which there are `counts`; a block of them at a time."""
    kinds, clusters = len(counts), int(counts.sum())
    few = MANY * kinds < clusters  # a binomial count costs more than a drawn index, but one is enough for each kind
    size = max(1, BLOCK // (kinds if few else clusters))
    kind = np.repeat(np.arange(kinds), 0 if few else counts)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        if few:
            yield random.multinomial(clusters, counts / clusters, rows)
        else:
            indices = kind[random.integers(clusters, size=(rows, clusters))] + kinds * np.arange(rows)[:, None]
            yield np.bincount(indices.ravel(), minlength=rows * kinds).reshape(rows, kinds)


def mean(sums: Floats) -> Floats:
    """The means of all columns but the last, which counts."""
    return sums[..., :-1] / sums[..., -1:]


def mean_interval(values: NDArray[Any], level: float = LEVEL, seed: int = 0) -> Interval:
    """The interval of the mean of `values` (N,), one a cluster."""
    return mean_intervals(np.asarray(values)[:, None], level, seed)[0]


def mean_intervals(values: NDArray[Any], level: float = LEVEL, seed: int = 0) -> list[Interval]:
    """The intervals of the means of K columns (N, K), one row a cluster, all from the same resamples."""
    values = np.asarray(values, dtype=np.float64)
    return bootstrap_intervals(np.column_stack([values, np.ones(len(values))]), mean, level, seed)


def _bca(drawn: Floats, value: float, without: Floats, counts: NDArray[np.int64], level: float) -> Interval:
    """The bias-corrected and accelerated ends among `drawn`; `without` is the statistic without one cluster of each
    distinct kind, of which there are `counts`."""
    if drawn.min() == drawn.max():
        return Interval(value, value, level)
    normal, count = NormalDist(), len(drawn)
    below = (np.count_nonzero(drawn < value) + 0.5 * np.count_nonzero(drawn == value)) / count
    bias = normal.inv_cdf(min(max(below, 0.5 / count), 1 - 0.5 / count))
    apart = np.average(without, weights=counts) - without
    spread = float(counts @ apart**2)
    acceleration = float(counts @ apart**3) / (6 * spread**1.5) if spread > 0 else 0.0
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        moved = bias + normal.inv_cdf(tail)
        scale = 1 - acceleration * moved
        ends.append(normal.cdf(bias + moved / scale) if scale > 0 else float(tail > 0.5))
    low, high = np.quantile(drawn, sorted(ends))
    return Interval(min(float(low), value), max(float(high), value), level)


def effective_items(share: float, standard_error: float, clusters: int) -> float:
    """How many independent items a clustered share is worth, p (1 − p) / SE²; as many as clusters where the error is
    zero.

    Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24 (1998).
    """
    return share * (1 - share) / standard_error**2 if standard_error > 0 and 0 < share < 1 else float(clusters)
