"""Recall, its mean and the median rank of both directions of retrieval, with standard errors.

Recall@k: the share of queries with a right answer among the first k (Karpathy and Fei-Fei, 2015); r_mean is the mean
of the six recalls.

Standard errors take images as drawn and the captions of an image as drawn with it: texts of one image are alike, so
that T texts say less than T independent ones. Each is that of a ratio of sums over images (linearised; Cochran,
"Sampling Techniques", 1977, chapter 6). For image → text it is the binomial √(p(1 − p)/N). That of a median is half the
distance between the order statistics √n / 2 to either side of it (distribution-free; David and Nagaraja, "Order
Statistics", 2003, section 7.1), for texts as if they were independent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rcc.evaluation.retrieval.ranks import Pairs, Ranks
from rcc.measurement import Metric

DEPTHS = (1, 5, 10)
PRIMARY = "r_mean"


def retrieval_metrics(ranks: Ranks, pairs: Pairs) -> tuple[Metric, ...]:
    """`r_mean`, `image_to_text_recall_at_1` … `text_to_image_recall_at_10`, and both `…_median_rank`."""
    recalls, medians, deviations = [], [], []
    for way, (of_queries, drawn_with) in _ways(ranks, pairs).items():
        for depth in DEPTHS:
            hits = (of_queries <= depth).double()
            deviations.append(_deviations(hits, drawn_with, pairs.images))
            recalls.append(_share(f"{way}_recall_at_{depth}", float(hits.mean()), deviations[-1]))
        medians.append(_median(f"{way}_median_rank", of_queries))
    mean = sum(recall.value for recall in recalls) / len(recalls)
    return (_share(PRIMARY, mean, torch.stack(deviations).mean(0)), *recalls, *medians)


def recalls_per_image(ranks: Ranks, pairs: Pairs) -> dict[str, list[float]]:
    """For `r_mean` and each recall, a value for each of the N images: N times what its queries add, so that the mean
    of the values is the metric."""
    found = {}
    for way, (of_queries, drawn_with) in _ways(ranks, pairs).items():
        for depth in DEPTHS:
            hits = (of_queries <= depth).double() * (pairs.images / len(of_queries))
            found[f"{way}_recall_at_{depth}"] = torch.zeros(pairs.images).double().index_add_(0, drawn_with, hits)
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


def _deviations(hits: Tensor, drawn_with: Tensor, images: int) -> Tensor:
    """(N,) what each image's queries add to the mean of all `hits`, beyond what they would at the mean."""
    return torch.zeros(images, dtype=torch.float64).index_add_(0, drawn_with, hits - hits.mean()) / len(hits)


def _share(name: str, value: float, deviations: Tensor) -> Metric:
    return Metric(name, value, "fraction", standard_error=float(deviations.square().sum().sqrt()))


def _median(name: str, ranks: Tensor) -> Metric:
    ordered, count = ranks.double().sort().values, len(ranks)
    low = max(0, math.floor((count - math.sqrt(count)) / 2))
    high = count - 1 - low
    error = float(ordered[high] - ordered[low]) / 2 if count > 1 else None
    return Metric(
        name,
        float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2,
        "rank",
        higher_is_better=False,
        standard_error=error,
    )
