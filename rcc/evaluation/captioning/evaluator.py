"""Captioning: what the model writes about each image, scored against what people wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError, WorkError, is_whole
from rcc.evaluation.captioning.clip_score import Judge
from rcc.evaluation.captioning.corpus import CaptionScore
from rcc.evaluation.captioning.java import unavailable
from rcc.evaluation.captioning.metrics import METRICS, NEED_JAVA, MetricComputer, check_metrics
from rcc.evaluation.fitting import what_fits
from rcc.layers.modes import evaluating
from rcc.measurement import Measurement, Metric
from rcc.models.abilities import Captioner
from rcc.models.adapter import Adapter

FRACTIONS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor", "spice")
"""Metrics with 1 for the best there is; CIDEr-D goes to 10 and CLIPScore to 2.5."""


class CaptioningEvaluator:
    """Writes a caption for each image and computes `metrics`, the first of them primary (of BLEU, BLEU-4).

    Args:
        batch_size: images in one call of the model.
        metrics: which of cider_d, bleu (1 to 4), rouge_l, meteor and spice. The last two need Java; where they cannot
            run, `details` say why and the others are reported.
        tokenizer: java, python, or auto: Java's where it is installed. `details` say which made the words.
        settings: how captions are written, by the name the model has for it; None leaves it to the model.
        num_beams, max_length, min_length: of the generation, lengths in tokens; None leaves each to `settings`.
        clip_score_model: the checkpoint of a model that judges by CLIPScore and RefCLIPScore; None for neither.
    """

    def __init__(
        self,
        batch_size: int = 32,
        metrics: Sequence[str] = METRICS,
        tokenizer: str = "auto",
        settings: str | None = None,
        num_beams: int | None = None,
        max_length: int | None = None,
        min_length: int | None = None,
        clip_score_model: str | None = None,
    ) -> None:
        """Raises:
        UserError: an option out of its range, an unknown metric or tokenizer, or a judge that cannot be loaded.
        """
        given = {"settings": settings, "num_beams": num_beams, "max_length": max_length, "min_length": min_length}
        self.settings = {name: value for name, value in given.items() if value is not None}
        problems = Problems("eval 'captioning'")
        problems.whole("batch_size", batch_size, 1)
        numbers = {"num_beams": num_beams, "max_length": max_length, "min_length": min_length}
        sound = [
            problems.check(
                number is None or (is_whole(number) and number >= 1),
                f"{name} is {number!r}; it must be a whole number from 1 up, or null for the model's own.",
            )
            for name, number in numbers.items()
        ]
        problems.check(
            not all(sound) or (min_length or 0) <= (max_length or min_length or 0),
            f"min_length is {min_length} and max_length {max_length}; no caption is both as long and as short.",
        )
        problems.done()
        check_metrics(metrics)
        reason = unavailable(metrics[0]) if metrics[0] in NEED_JAVA else None
        problems.check(
            reason is None,
            f"the primary metric {metrics[0]} cannot be computed here: {reason}. Put another first in metrics.",
        )
        problems.done()
        self.batch_size, self.metrics = batch_size, tuple(metrics)
        self.primary = "bleu_4" if metrics[0] == "bleu" else metrics[0]
        self.computer = MetricComputer(tokenizer)
        self.judge = Judge(clip_score_model, batch_size) if clip_score_model else None

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: a model that writes no captions, or a set without captions.
        """
        if not isinstance(adapter, Captioner):
            raise UserError(
                f"eval 'captioning' needs a model that writes captions, such as BLIP, and '{adapter.name}' does not."
                f" {what_fits(adapter)}"
            )
        if not split.captions:
            raise UserError(
                f"eval 'captioning': the split '{split.name}' has no captions to compare with; take a set that has"
                " some, such as data=flickr8k or data=coco."
            )

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Caption every image of `split`. `details` hold the captions, what they were made with, and each metric by
        image.

        Raises:
            UserError: a model that writes no captions, or a set without captions.
            WorkError: the primary metric's program failed.
        """
        self.check(adapter, split, splits)
        assert isinstance(adapter, Captioner)
        predictions: list[str] = []
        with evaluating(adapter.module):
            for start in range(0, len(split), self.batch_size):
                pictures = list(split.images[start : start + self.batch_size])
                predictions += adapter.generate_caption(pictures, **self.settings)
        found = self.computer.compute(predictions, split.captions, self.metrics, split.images.name)
        if self.metrics[0] in found.unavailable:
            raise WorkError(found.unavailable[self.metrics[0]])
        scores = [*found.scores, *(self.judge.scores(split, predictions) if self.judge else [])]
        details: dict[str, Any] = {
            "note": _note(self.computer.tokenizer.name, found.unavailable, self.judge),
            "predictions": predictions,
            "tokenizer": self.computer.tokenizer.name,
            "settings": self.settings,
            "unavailable": found.unavailable,
            "per_image": {score.name: list(score.per_image) for score in scores if score.per_image is not None},
            "bleu_counts": found.bleu_counts,
        }
        if self.judge:
            details["clip_score_model"] = self.judge.path
        return Measurement(tuple(map(_metric, scores)), self.primary, split.name, len(split), details)


def _note(tokenizer: str, missing: Mapping[str, str], judge: Judge | None) -> str:
    """The choices that the numbers depend on, for people."""
    left_out = "".join(f" {metric} is left out: {reason}." for metric, reason in missing.items())
    judged = f" CLIPScore is judged by {judge.path}." if judge else ""
    return f"Captions: words by {tokenizer}.{judged}{left_out}"


def _metric(score: CaptionScore) -> Metric:
    unit = "fraction" if score.name in FRACTIONS else ""
    return Metric(score.name, score.value, unit, True, score.standard_error, score.interval)
