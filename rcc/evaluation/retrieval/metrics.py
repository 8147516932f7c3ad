"""Compute recall, its mean and the median rank of both directions of retrieval, with errors, intervals and chance.

Recall@k: the share of queries with a right answer among the first k (Karpathy and Fei-Fei, 2015); r_mean is the mean
of the six recalls.

Standard errors take images as drawn and the captions of an image as drawn with it: texts of one image are alike, so
that T texts say less than T independent ones. Each is that of a ratio of sums over images (linearised; Cochran,
"Sampling Techniques", 1977, chapter 6). For image → text it is the binomial √(p(1 − p)/N).

The interval of a recall of images is Wilson's. Another's is the hull of the BCa bootstrap over images and of Wilson's
for as many independent queries as its standard error is worth, which bounds it where all images came out alike. That of
a median is Woodruff's for as many queries as the share of those above it is worth; its error is that interval's.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rcc.evaluation.retrieval.ranks import Pairs, Ranks
from rcc.measurement import Interval, Metric
from rcc.measurement.bootstrap import Floats, bootstrap_intervals, effective_items
from rcc.measurement.shares import quantile_interval, share_interval

DEPTHS = (1, 5, 10)
PRIMARY = "r_mean"


def retrieval_metrics(ranks: Ranks, pairs: Pairs) -> tuple[Metric, ...]:
    """`r_mean`, `image_to_text_recall_at_1` … `text_to_image_recall_at_10`, and both `…_median_rank`."""
    names, columns, deviations, chances, medians = [], [], [], [], []
    for way, (of_queries, drawn_with) in _ways(ranks, pairs).items():
        columns.append(_summed(torch.ones(len(of_queries)), drawn_with, pairs.images))
        for depth in DEPTHS:
            hits = (of_queries <= depth).double()
            names.append(f"{way}_recall_at_{depth}")
            columns.append(_summed(hits, drawn_with, pairs.images))
            deviations.append(_summed(hits - hits.mean(), drawn_with, pairs.images) / len(hits))
            chances.append(_chance(way, depth, pairs))
        medians.append(_median(f"{way}_median_rank", of_queries, drawn_with, pairs.images))
    clusters = torch.stack(columns, 1).numpy()
    values = _recalls(clusters.sum(0))
    deviations.append(torch.stack(deviations).mean(0))
    errors = [float(each.square().sum().sqrt()) for each in deviations]
    drawn = bootstrap_intervals(clusters, _recalls)
    recalls = [
        Metric(name, float(value), "fraction", True, error, _hull(float(value), error, interval, pairs.images), chance)
        for name, value, error, interval, chance in zip(
            [*names, PRIMARY], values, errors, drawn, [*chances, sum(chances) / len(chances)], strict=True
        )
    ]
    return (recalls[-1], *recalls[:-1], *medians)


def _recalls(sums: Floats) -> Floats:
    """(…, 7) the six recalls and their mean, of sums (…, 8): for each direction its queries, and its hits by depth."""
    width = 1 + len(DEPTHS)
    ways = [sums[..., at + 1 : at + width] / sums[..., at : at + 1] for at in (0, width)]
    recalls = np.concatenate(ways, axis=-1)
    return np.concatenate([recalls, recalls.mean(-1, keepdims=True)], axis=-1)


def _hull(value: float, error: float, drawn: Interval, images: int) -> Interval:
    """The hull of the interval of resampled images and of Wilson's for what `value` is worth."""
    return drawn.hull(share_interval(value, effective_items(value, error, images)))


def _chance(way: str, depth: int, pairs: Pairs) -> float:
    """Recall at `depth` of answers in random order: the mean over queries of 1 − C(P − r, k) / C(P, k) in a pool of P
    answers of which r are right."""
    asking, pool, count = (
        (pairs.image, pairs.texts, pairs.images) if way == "image_to_text" else (pairs.text, pairs.images, pairs.texts)
    )
    right, queries = torch.bincount(asking, minlength=count).unique(return_counts=True)
    missed = [math.comb(pool - each, depth) / max(1, math.comb(pool, depth)) for each in right.tolist()]
    return 1 - sum(a * b for a, b in zip(missed, queries.tolist(), strict=True)) / count if pool >= depth else 1.0


def recalls_per_image(ranks: Ranks, pairs: Pairs) -> dict[str, list[float]]:
    """For `r_mean` and each recall, a value for each of the N images: N times what its queries add, so that the mean
    of the values is the metric."""
    found = {}
    for way, (of_queries, drawn_with) in _ways(ranks, pairs).items():
        for depth in DEPTHS:
            hits = (of_queries <= depth).double() * (pairs.images / len(of_queries))
            found[f"{way}_recall_at_{depth}"] = _summed(hits, drawn_with, pairs.images)
    mean = torch.stack(list(found.values())).mean(0)
    return {name: values.tolist() for name, values in ({PRIMARY: mean} | found).items()}


def _ways(ranks: Ranks, pairs: Pairs) -> dict[str, tuple[Tensor, Tensor]]:
    """Each direction with its queries' ranks and the image that each query is drawn with."""
    # A text of several images is drawn with the first of them.
    first = torch.full((pairs.texts,), pairs.images).scatter_reduce_(0, pairs.text, pairs.image, "amin")
    return {
        "image_to_text": (ranks.of_images, torch.arange(pairs.images)),
        "text_to_image": (ranks.of_texts, first),
    }


def _summed(of_queries: Tensor, drawn_with: Tensor, images: int) -> Tensor:
    """(N,) the sum over the queries that are drawn with each image."""
    return torch.zeros(images, dtype=torch.float64).index_add_(0, drawn_with, of_queries.double())


def _median(name: str, ranks: Tensor, drawn_with: Tensor, images: int) -> Metric:
    ordered, count = ranks.double().sort().values, len(ranks)
    median = float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    above = (ranks > median).double()
    share = float(above.mean())
    error = float((_summed(above - share, drawn_with, images) / count).square().sum().sqrt())
    interval = quantile_interval(ordered.tolist(), 0.5, items=effective_items(share, error, images))
    spread = None if interval is None else interval.standard_error
    return Metric(name, median, "rank", False, spread, interval)
