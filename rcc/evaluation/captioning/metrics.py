"""Every caption metric of one set of predictions, with the specification's `MetricComputer` interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rcc.errors import Problems, UserError, WorkError
from rcc.evaluation.captioning.corpus import CaptionCorpus, CaptionScore, tokenized
from rcc.evaluation.captioning.java import meteor, spice, unavailable
from rcc.evaluation.captioning.scores import bleu, cider_d, rouge_l
from rcc.evaluation.captioning.tokens import load_tokenizer, package_directory

Predictions = Sequence[str]
References = Sequence[Sequence[str]]

METRICS = ("cider_d", "bleu", "rouge_l", "meteor", "spice")
NEED_JAVA = {"meteor": meteor, "spice": spice}
ORDERS = 4


@dataclass(frozen=True)
class CaptionScores:
    """The scores in the order asked for; the reason for each that could not be computed; BLEU's counts (see `bleu`) by
    image."""

    scores: tuple[CaptionScore, ...]
    unavailable: dict[str, str] = field(default_factory=dict)
    bleu_counts: list[list[int]] = field(default_factory=list)

    def __getitem__(self, name: str) -> CaptionScore:
        return next(score for score in self.scores if score.name == name)


class MetricComputer:
    """Scores captions against what people wrote: BLEU-1 to 4, CIDEr-D, ROUGE-L, METEOR and SPICE.

    Values are those of pycocoevalcap; papers print them times 100. `predictions` are N captions, `references` one or
    more for each.

    Args:
        tokenizer: java, python, or auto: Java's where it is installed. `tokenizer.name` says which it is.
    """

    def __init__(self, tokenizer: str = "auto") -> None:
        """Raises:
        UserError: an unknown tokenizer, java where there is none, or the package of the scorers is not installed.
        """
        package_directory()
        self.tokenizer = load_tokenizer(tokenizer)

    def compute_bleu_score(self, predictions: Predictions, references: References, max_n: int = ORDERS) -> float:
        """BLEU-max_n of the corpus, from 0 to 1."""
        return bleu(self._corpus(predictions, references), max_n)[0][-1].value

    def compute_cider_score(self, predictions: Predictions, references: References) -> float:
        """CIDEr-D, from 0 to 10.

        Raises:
            UserError: there is a single image.
        """
        return cider_d(self._corpus(predictions, references)).value

    def compute_rouge_score(self, predictions: Predictions, references: References) -> float:
        """ROUGE-L, from 0 to 1."""
        return rouge_l(self._corpus(predictions, references)).value

    def compute_meteor_score(self, predictions: Predictions, references: References) -> float:
        """METEOR, from 0 to 1.

        Raises:
            UserError: it cannot run here; the message says why.
            WorkError: its program failed.
        """
        return self._by_java("meteor", predictions, references)

    def compute_spice_score(self, predictions: Predictions, references: References) -> float:
        """SPICE, from 0 to 1.

        Raises:
            UserError: it cannot run here; the message says why.
            WorkError: its program failed.
        """
        return self._by_java("spice", predictions, references)

    def compute(
        self,
        predictions: Predictions,
        references: References,
        metrics: Sequence[str] = METRICS,
        name: Callable[[int], str] = "image {}".format,
    ) -> CaptionScores:
        """All of `metrics` from one tokenization. What needs Java is left out with its reason where it cannot run.

        Args:
            name: what to call the i-th image in a message.

        Raises:
            UserError: an unknown metric, lists of different lengths, an image without a reference, or CIDEr-D of a
                single image.
        """
        check_metrics(metrics)
        corpus = self._corpus(predictions, references, name)
        scores: list[CaptionScore] = []
        missing: dict[str, str] = {}
        counts: list[list[int]] = []
        for metric in metrics:
            if metric == "bleu":
                orders, of_images = bleu(corpus, ORDERS)
                scores += orders
                counts = of_images.tolist()
            elif metric in NEED_JAVA:
                reason = unavailable(metric)
                try:
                    scores += [] if reason else [NEED_JAVA[metric](corpus)]
                except WorkError as error:
                    reason = str(error)
                if reason:
                    missing[metric] = reason
            else:
                scores.append({"cider_d": cider_d, "rouge_l": rouge_l}[metric](corpus))
        return CaptionScores(tuple(scores), missing, counts)

    def _by_java(self, metric: str, predictions: Predictions, references: References) -> float:
        reason = unavailable(metric)
        if reason:
            raise UserError(f"{metric} cannot be computed here: {reason}.")
        return NEED_JAVA[metric](self._corpus(predictions, references)).value

    def _corpus(self, predictions: Predictions, references: References, *name: Any) -> CaptionCorpus:
        return tokenized(self.tokenizer, predictions, references, *name)


def check_metrics(metrics: Sequence[str]) -> None:
    """Raises:
    UserError: no metric, one twice, or unknown ones, each with what there is.
    """
    problems = Problems("eval 'captioning'")
    problems.check(len(metrics) > 0, f"metrics is empty; choose among {', '.join(METRICS)}.")
    problems.check(len(set(metrics)) == len(metrics), f"metrics names one twice: {', '.join(metrics)}.")
    for metric in dict.fromkeys(metrics):
        problems.choice("metric", metric, METRICS)
    problems.done()
