"""BLEU, CIDEr-D and ROUGE-L of a tokenized corpus by pycocoevalcap's scorers, which need no Java.

`docs/method/captioning.md` has the definitions. Values are as the scorers give them; papers print them times 100.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rcc.errors import Problems, UserError
from rcc.evaluation.captioning.corpus import CaptionCorpus, CaptionScore
from rcc.evaluation.captioning.tokens import package_directory
from rcc.measurement.bootstrap import bootstrap_intervals

TINY, SMALL = 1e-15, 1e-9  # what the published scorer adds above and below, so that nothing divides by zero


def bleu(corpus: CaptionCorpus, max_n: int = 4, seed: int = 0) -> tuple[list[CaptionScore], NDArray[np.int64]]:
    """BLEU-1 … BLEU-max_n of the corpus, and the counts they come from, (N, 2 · max_n + 2): matched n-grams of each
    order, n-grams of each order, words, words of the closest reference.

    A corpus score is no mean over images, so its interval is that of a seeded BCa bootstrap over images, and its
    standard error that interval's. Source: Papineni et al. (2002); Koehn (2004) for the bootstrap.

    Raises:
        UserError: `max_n` below 1.
    """
    problems = Problems("BLEU")
    problems.whole("max_n", max_n, 1)
    problems.done()
    package_directory()
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=max_n)
    for predicted, written in zip(corpus.predictions, corpus.references, strict=True):
        scorer += (predicted, list(written))
    values, _ = scorer.compute_score(option="closest")
    counts = np.array(
        [[*each["correct"], *each["guess"], each["testlen"], _closest(**each)] for each in scorer.ctest], dtype=np.int64
    )
    scores = [CaptionScore(f"bleu_{n + 1}", float(values[n])) for n in range(max_n)]
    if len(counts) > 1:
        drawn = bootstrap_intervals(counts, bleu_of_counts, seed=seed)[:max_n]
        scores = [
            replace(score, standard_error=of.standard_error, interval=of)
            for score, of in zip(scores, drawn, strict=True)
        ]
    return scores, counts


def _closest(testlen: int, reflen: list[int], **_: object) -> int:
    """The length of the reference that is closest in length, the shorter of two."""
    return min(reflen, key=lambda length: (abs(length - testlen), length))


def bleu_of_counts(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU-1 … BLEU-n (…, n) from sums over a corpus of the counts of `bleu`, (…, 2n + 2)."""
    orders = (sums.shape[-1] - 2) // 2
    matched, possible = sums[..., :orders], sums[..., orders : 2 * orders]
    logs = np.cumsum(np.log((matched + TINY) / (possible + SMALL)), axis=-1) / np.arange(1, orders + 1)
    ratio = (sums[..., -2] + TINY) / (sums[..., -1] + SMALL)
    return np.exp(logs + np.minimum(0, 1 - 1 / ratio)[..., None])


def cider_d(corpus: CaptionCorpus) -> CaptionScore:
    """CIDEr-D, document frequencies from the corpus's own references; from 0 to 10.

    The standard error takes the document frequencies as given. Source: Vedantam et al. (2015), section 4 and the
    D variant of its equation 5.

    Raises:
        UserError: a single image: every n-gram is then in every document and weighs log 1 = 0.
    """
    if len(corpus.predictions) < 2:
        raise UserError(
            "CIDEr-D was asked for on one image. It weighs words by how few images they are used of, so it needs at"
            " least two; take a larger split, or other metrics: metrics=[bleu,rouge_l]."
        )
    package_directory()
    from pycocoevalcap.cider.cider import Cider

    return CaptionScore.mean("cider_d", Cider().compute_score(*corpus.by_image)[1])


def rouge_l(corpus: CaptionCorpus) -> CaptionScore:
    """ROUGE-L: the F measure with β = 1.2 of the best recall and the best precision of the longest common subsequence
    with any reference. Source: Lin (2004), section 3."""
    package_directory()
    from pycocoevalcap.rouge.rouge import Rouge

    return CaptionScore.mean("rouge_l", Rouge().compute_score(*corpus.by_image)[1])
