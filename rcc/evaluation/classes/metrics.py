"""Compute the metrics of predicted classes: accuracies with their intervals, and the most frequent confusions.

N images, C classes. Among equal scores the class that comes first has the better rank, and is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.measurement import Measurement, Metric
from rcc.measurement.paired import PER_IMAGE
from rcc.measurement.shares import share_interval

TOP_K = 5
MOST_CONFUSIONS = 10


def labels_of(split: Split, splits: Splits, evaluator: str) -> Tensor:
    """(N,) int64 class of each image.

    Raises:
        UserError: the data has no classes, or no labels for this split; the message says what it has. Or it has a
            single class, of which every answer is right: no gate could tell a broken model by it.
    """
    if split.labels is None or not splits.class_names:
        have = [f"{len(split)} {split.noun}"]
        have += [f"{sum(map(len, split.captions))} captions"] if split.captions else []
        have += [f"{len(splits.class_names)} class names"] if splits.class_names else []
        lacks = "labels" if splits.class_names else "classes"
        raise UserError(
            f"eval '{evaluator}' needs {split.noun} with classes, and split '{split.name}' of the data has no {lacks}:"
            f" it has {' and '.join(have)}. Choose data with classes (data=digits, data=imagenet, …)"
            f"{', or eval=retrieval for captions' if split.captions else ''}."
        )
    if len(splits.class_names) == 1:
        raise UserError(
            f"eval '{evaluator}': the data has one class, '{splits.class_names[0]}'. Whatever a model answers is right"
            " then, so that an accuracy of 100 % would say nothing of it. Choose data with two classes or more."
        )
    return torch.from_numpy(split.labels)


def class_measurement(scores: Iterable[Tensor], split: Split, splits: Splits, labels: Tensor, of: str) -> Measurement:
    """Accuracy (primary), top-5 accuracy where there are five classes, and the mean of the classes' accuracies.

    `details` holds for each image its label, the class predicted and the rank of the true class (1 is best), and
    the most frequent confusions by name, and what each image adds to the metrics. Intervals are Wilson's. The error of
    the mean over classes is √(Σ_c p_c(1 − p_c)/n_c) / C over the C classes that occur; there is none where a class has
    a single image, whose variance one image does not tell. Its interval is that of a share of C² / Σ_c (1/n_c) images.

    Chance is the agreement Σ_c s_c q_c of the classes' shares s of the labels with their shares q of the answers: what
    answers as frequent as the model's reach without a look at the images, and all that one and the same answer reaches.
    Source: Cohen, "A coefficient of agreement for nominal scales", 1960.

    Args:
        scores: (b, C) of the next b images, highest for the class predicted, in the order of the split.
        labels: (N,) of the split.
        of: what the names of the metrics begin with: '' or 'classifier_', say.
    """
    parts, start = [], 0
    for block in scores:
        parts.append(ranked(block, labels[start : start + len(block)]))
        start += len(block)
    ranks, predictions = (torch.cat(column) for column in zip(*parts, strict=True))
    metrics = [_accuracy(f"{of}accuracy", ranks, 1, agreement(labels, predictions))]
    if len(splits.class_names) >= TOP_K:
        metrics.append(_accuracy(f"{of}top{TOP_K}_accuracy", ranks, TOP_K))
    metrics.append(_mean_over_classes(f"{of}mean_class_accuracy", labels, predictions))
    details = {
        "labels": labels.tolist(),
        "predictions": predictions.tolist(),
        "ranks": (ranks + 1).tolist(),
        "confusions": confusions(labels, predictions, splits.class_names),
        PER_IMAGE: {
            f"{of}accuracy": (ranks < 1).int().tolist(),
            f"{of}top{TOP_K}_accuracy": (ranks < TOP_K).int().tolist(),
            f"{of}mean_class_accuracy": _shares_of_classes(labels, predictions).tolist(),
        },
    }
    return Measurement(tuple(metrics), f"{of}accuracy", split.name, len(split), details)


def ranked(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of the true class of each item (0 is best) and the class predicted, (N,) each, from scores (N, C)."""
    own = scores.gather(1, labels[:, None])
    earlier = torch.arange(scores.shape[1])[None, :] < labels[:, None]
    ranks = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return ranks, scores.argmax(1)


def confusions(labels: Tensor, predictions: Tensor, class_names: tuple[str, ...]) -> list[dict[str, str | int]]:
    """The most frequent pairs of a true class and another predicted for it, most frequent first, 10 at most."""
    wrong = labels != predictions
    pairs, counts = torch.stack([labels[wrong], predictions[wrong]], 1).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:MOST_CONFUSIONS]
    return [
        {"true": class_names[true], "predicted": class_names[predicted], "count": int(count)}
        for (true, predicted), count in zip(pairs[order].tolist(), counts[order], strict=True)
    ]


def agreement(labels: Tensor, predictions: Tensor) -> float:
    """Share of the items that answers of the same frequencies get right by chance, Σ_c s_c q_c."""
    classes = 1 + int(max(labels.max(), predictions.max()))
    counts = [torch.bincount(each, minlength=classes).double() for each in (labels, predictions)]
    return float(counts[0] @ counts[1]) / len(labels) ** 2


def _accuracy(name: str, ranks: Tensor, k: int, chance: float | None = None) -> Metric:
    share, items = float((ranks < k).double().mean()), len(ranks)
    error = math.sqrt(share * (1 - share) / items)
    return Metric(name, share, "fraction", True, error, share_interval(share, items), chance)


def _shares_of_classes(labels: Tensor, predictions: Tensor) -> Tensor:
    """(N,) values whose mean is the mean of the classes' accuracies: N / (C n_c) for each right one of class c."""
    counts = torch.bincount(labels)
    weights = len(labels) / (int((counts > 0).sum()) * counts[labels].double())
    return weights * (labels == predictions)


def _mean_over_classes(name: str, labels: Tensor, predictions: Tensor) -> Metric:
    classes = int(labels.max()) + 1
    counts = torch.bincount(labels, minlength=classes)
    right = torch.bincount(labels[labels == predictions], minlength=classes)
    occur = counts > 0
    share = right[occur].double() / counts[occur]
    error = float((share * (1 - share) / counts[occur]).sum().sqrt()) / len(share)
    mean, worth = float(share.mean()), len(share) ** 2 / float((1 / counts[occur]).sum())
    interval = share_interval(mean, worth)
    return Metric(name, mean, "fraction", True, error if int(counts[occur].min()) > 1 else None, interval)
