"""Try other normalisations of pixels on images that no test sees, and name one that is clearly better.

A network that is given pixels of another mean or scale than it was trained on still answers, less well, and nothing
else would tell. Nothing is changed here: the user's settings stand.

Shapes: B images, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rcc.data.loading import batch_of
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.classes.classification import class_places
from rcc.layers.model import Batch
from rcc.layers.modes import evaluating
from rcc.models.abilities import Classifier
from rcc.models.adapter import Adapter
from rcc.models.own.image_input import IMAGENET_MEAN, IMAGENET_STD

LEAST, FIRST, BATCH = 200, 64, 32
"""Images that a judgement takes; those on which every candidate is tried, of which the best goes on; in one forward."""
CANDIDATES = {
    "ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "to [-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "to [0, 1]": ((0.0,) * 3, (1.0,) * 3),
    "to 0 … 255": ((0.0,) * 3, (1 / 255,) * 3),
}
"""(mean, std) of values in [0, 1], by what they are called."""
LEAST_GAIN, SURE = 0.02, 2.5
"""A clear difference: so much of the score, and so many of its standard errors (1 in 40 by chance, of four tried)."""

Moments = tuple[Sequence[float], Sequence[float]]


def likelier_normalisation(adapter: Adapter, splits: Splits) -> str:
    """A warning that names a normalisation under which the model does clearly better, and the option that sets it; ''
    where there is none, or nothing to judge by.

    Judged on `LEAST` or more images of the calibration and selection splits by accuracy where there are labels, else by
    how sure and how varied the classes are that the model tells. It takes `FIRST` images through the model for each
    candidate, and goes on with the best where that is ahead: 2 · (LEAST + BATCH − FIRST) more at most.
    """
    own = adapter.pixel_moments
    if own is None or not adapter.check_input or "images" not in adapter.reads:
        return ""
    parts = [split for split in (splits.calibration, splits.selection) if "images" in split.fields]
    there = sum(map(len, parts))
    if there < LEAST:
        return (
            f"how pixels are normalised was not checked: that takes {LEAST} images, and calibration and selection have"
            f" {there}."
        )
    tried: dict[str, Moments] = {"": own} | {
        name: moments for name, moments in CANDIDATES.items() if len(own[0]) == 3 and not _alike(moments, own)
    }
    scores: dict[str, list[Tensor]] = {name: [] for name in tried}
    seen = 0
    with torch.inference_mode(), evaluating(adapter.module):
        for batch, labels in _batches(adapter, parts, splits):
            for name in list(scores):
                logits = adapter.outputs(_normalised(batch, own, tried[name])).get("logits")
                if logits is None or logits.dim() != 2:
                    return ""
                places = _places(adapter, splits, logits.shape[1]) if labels is not None else None
                scores[name].append(_scores(logits.float().cpu(), labels, places))
            seen += len(scores[""][-1])
            if seen >= FIRST and len(scores) > 2:
                best = max((name for name in scores if name), key=lambda name: _mean(scores[name]))
                scores = {name: scores[name] for name in ("", best)}
                if _mean(scores[best]) <= _mean(scores[""]):
                    return ""
            if seen >= LEAST:
                break
    return _judged(adapter, tried, scores, seen)


def _judged(adapter: Adapter, tried: dict[str, Moments], scores: dict[str, list[Tensor]], seen: int) -> str:
    other = next((name for name in scores if name), None)
    if other is None:
        return ""
    before, after = torch.cat(scores[""]), torch.cat(scores[other])
    labelled = before.dim() == 1
    if not labelled:
        before, after = _informing(before), _informing(after)
    gain = (after - before).double()
    error = float(gain.std()) / math.sqrt(len(gain))
    if float(gain.mean()) < max(LEAST_GAIN, SURE * error):
        return ""
    mean, std = ("[" + ",".join(f"{value:.6g}" for value in values) + "]" for values in tried[other])
    what = (
        "accuracy is {:.1%} where it is {:.1%} as set"
        if labelled
        else ("the classes told are surer and more varied ({:.2f} nats of information where there are {:.2f} as set)")
    )
    told = what.format(float(after.double().mean()), float(before.double().mean()))
    return (
        f"WARNING: pixels are probably normalised wrongly. Normalised {other} (mean {mean}, std {std}), {told}, on"
        f" {seen} images of calibration and selection. Nothing was changed. To set it: "
        f"{adapter.moments_set_by.format(mean=mean, std=std)}; not to be asked: model.check_input=false."
    )


def _batches(adapter: Adapter, parts: Sequence[Split], splits: Splits) -> Iterator[tuple[Batch, Tensor | None]]:
    """The images of the splits in batches, with their labels where all have some."""
    labelled = bool(splits.class_names) and all(split.labels is not None for split in parts)
    for split in parts:
        for start in range(0, len(split), BATCH):
            batch = batch_of(adapter, split, start, start + BATCH)
            labels = None if not labelled or split.labels is None else split.labels[start : start + BATCH]
            yield batch, None if labels is None else torch.from_numpy(labels)


def _normalised(batch: Batch, own: Moments, other: Moments) -> Batch:
    """The batch with its pixels (B, C, H, W) normalised by `other` in place of `own`."""
    if other is own:
        return batch
    made = dict(batch)
    for name, pixels in batch.items():
        if pixels.dim() == 4 and pixels.is_floating_point():
            values = [pixels.new_tensor(each)[:, None, None] for each in (*own, *other)]
            made[name] = (pixels * values[1] + values[0] - values[2]) / values[3]
    return made


def _places(adapter: Adapter, splits: Splits, logits: int) -> list[int] | None:
    """The logit of each class of the data; None where they are not the model's."""
    names = adapter.class_names if isinstance(adapter, Classifier) else ()
    try:
        return class_places(names, splits.class_names, logits)[0]
    except UserError:
        return None


def _scores(logits: Tensor, labels: Tensor | None, places: list[int] | None) -> Tensor:
    """(B,) 1 where the class is right and 0 elsewhere; without labels (B, classes) probabilities."""
    if labels is None or places is None:
        return logits.softmax(-1)
    return (logits[:, places].argmax(-1) == labels).double()


def _informing(probabilities: Tensor) -> Tensor:
    """(B,) of each image the entropy of all images' mean prediction less that of its own, in nats: their mean is the
    mutual information of image and class, 0 where every image is given the same answer."""
    return _entropy(probabilities.mean(0, keepdim=True)) - _entropy(probabilities)


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(-1)


def _mean(scores: Sequence[Tensor]) -> float:
    found = torch.cat(list(scores))
    return float((found if found.dim() == 1 else _informing(found)).double().mean())


def _alike(one: Moments, other: Moments) -> bool:
    return all(abs(a - b) < 1e-3 for a, b in zip((*one[0], *one[1]), (*other[0], *other[1]), strict=True))
