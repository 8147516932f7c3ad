"""Predicted captions beside what people wrote, as words: what every caption metric is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rcc.errors import Problems
from rcc.evaluation.captioning.tokens import CaptionTokenizer
from rcc.measurement import Interval
from rcc.measurement.bootstrap import mean_interval


@dataclass(frozen=True)
class CaptionCorpus:
    """N tokenized predictions, '' where nothing was written, and one or more tokenized references of each."""

    predictions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    @property
    def by_image(self) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        """References and predictions by index, as pycocoevalcap's scorers take them."""
        references = {index: list(written) for index, written in enumerate(self.references)}
        return references, {index: [predicted] for index, predicted in enumerate(self.predictions)}


@dataclass(frozen=True)
class CaptionScore:
    """A metric over a corpus. `per_image` (N,) is what it is a mean of, None where it is not one."""

    name: str
    value: float
    standard_error: float | None = None
    interval: Interval | None = None
    per_image: tuple[float, ...] | None = None

    @classmethod
    def mean(cls, name: str, per_image: Sequence[float]) -> CaptionScore:
        """The mean with its standard error, s / √N with s of N − 1 degrees of freedom, and its BCa interval; neither
        for one image."""
        scores = np.asarray(per_image, dtype=np.float64)
        several = len(scores) > 1
        error = float(scores.std(ddof=1) / np.sqrt(len(scores))) if several else None
        interval = mean_interval(scores) if several else None
        return cls(name, float(scores.mean()), error, interval, tuple(scores.tolist()))


def tokenized(
    tokenizer: CaptionTokenizer,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    name: Callable[[int], str] = "image {}".format,
) -> CaptionCorpus:
    """The corpus of `predictions` (N) and `references` (N, one or more each). References without a word are left out.

    Args:
        name: what to call the i-th image in a message.

    Raises:
        UserError: different lengths, no image at all, or images without a reference, by name.
    """
    problems = Problems("captions")
    problems.check(
        len(predictions) == len(references),
        f"there are {len(predictions)} predictions and the references of {len(references)} images;"
        " each image needs one prediction.",
    )
    problems.check(len(references) > 0, "there is no image to score.")
    problems.done()
    counts = [len(written) for written in references]
    together = tokenizer.tokenize([*predictions, *(text for written in references for text in written)])
    ends = len(predictions) + np.cumsum([0, *counts])
    kept = [tuple(text for text in together[start:end] if text) for start, end in pairwise(ends)]
    without = [name(index) for index, written in enumerate(kept) if not written]
    problems.check(
        not without,
        f"{len(without)} of {len(kept)} images have no reference with a word in it, the first being"
        f" {', '.join(without[:3])}; leave them out of the set, or add what people wrote about them.",
    )
    problems.done()
    return CaptionCorpus(tuple(together[: len(predictions)]), tuple(kept))
