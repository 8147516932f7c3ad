"""BLEU, CIDEr-D and ROUGE-L against hand-computed values, the definitions written out, and published results."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.errors import UserError
from rcc.evaluation.captioning.corpus import CaptionCorpus, CaptionScore
from rcc.evaluation.captioning.scores import bleu, bleu_of_counts, cider_d, rouge_l

Pairs = list[tuple[str, list[str]]]


def corpus(*pairs: tuple[str, list[str]]) -> CaptionCorpus:
    return CaptionCorpus(tuple(predicted for predicted, _ in pairs), tuple(tuple(written) for _, written in pairs))


def bleu_values(*pairs: tuple[str, list[str]]) -> list[float]:
    return [score.value for score in bleu(corpus(*pairs))[0]]


# The definitions, written out.


def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def defined_bleu(pairs: Pairs, order: int) -> float:
    """Papineni et al.: modified precisions of the corpus, their geometric mean, the brevity penalty.

    The precision of an order that no prediction is long enough for is not defined; 1e-6 is the published scorer's.
    """
    written = sum(len(predicted.split()) for predicted, _ in pairs)
    closest = sum(
        min((abs(len(text.split()) - len(predicted.split())), len(text.split())) for text in texts)[1]
        for predicted, texts in pairs
    )
    product = 1.0
    for n in range(1, order + 1):
        matched = sum(
            min(count, max(grams(text, n)[gram] for text in texts))
            for predicted, texts in pairs
            for gram, count in grams(predicted, n).items()
        )
        possible = sum(sum(grams(predicted, n).values()) for predicted, _ in pairs)
        product *= matched / possible if possible else 1e-6
    return product ** (1 / order) * (math.exp(min(0.0, 1 - closest / written)) if written else 0.0)


def defined_cider_d(pairs: Pairs) -> list[float]:
    """Vedantam et al.: mean over n and references of the clipped cosine of tf-idf vectors × Gaussian of the lengths.

    A length is the number of bigrams, as in the published scorer.
    """
    scores = []
    for predicted, texts in pairs:
        total = 0.0
        for n in range(1, 5):
            frequency = Counter(gram for _, of in pairs for gram in {g for text in of for g in grams(text, n)})

            def weights(text: str, n: int = n, frequency: Counter = frequency) -> dict[tuple[str, ...], float]:
                images = math.log(len(pairs))
                return {g: c * (images - math.log(max(1, frequency[g]))) for g, c in grams(text, n).items()}

            ours = weights(predicted)
            for text in texts:
                theirs = weights(text)
                product = sum(min(value, theirs.get(gram, 0)) * theirs.get(gram, 0) for gram, value in ours.items())
                norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                apart = max(len(predicted.split()) - 1, 0) - max(len(text.split()) - 1, 0)
                total += (product / norm if norm else 0.0) * math.exp(-(apart**2) / 72) / len(texts)
        scores.append(10 * total / 4)
    return scores


sentences = st.lists(st.sampled_from(["a", "dog", "runs", "red", "fast"]), max_size=9).map(" ".join)
some = st.lists(st.tuples(sentences, st.lists(sentences.filter(bool), min_size=1, max_size=3)), min_size=2, max_size=6)


@given(some)
@settings(max_examples=100, deadline=None)
def test_bleu_is_what_its_paper_defines(pairs: Pairs) -> None:
    values = bleu_values(*pairs)
    for order, value in enumerate(values, start=1):
        # The published scorer adds 1e-15 to a count of no match; its fourth root is 1.8e-4.
        assert value == pytest.approx(defined_bleu(pairs, order), abs=2e-3 if order > 1 else 1e-6)


@given(some)
@settings(max_examples=100, deadline=None)
def test_cider_d_is_what_its_paper_defines(pairs: Pairs) -> None:
    assert cider_d(corpus(*pairs)).per_image == pytest.approx(defined_cider_d(pairs), abs=1e-9)


@given(some)
@settings(max_examples=100, deadline=None)
def test_the_counts_of_bleu_give_bleu_again(pairs: Pairs) -> None:
    scores, counts = bleu(corpus(*pairs))
    again = bleu_of_counts(counts.sum(axis=0).astype(float))
    assert again == pytest.approx([score.value for score in scores], rel=1e-9, abs=1e-12)


# By hand.


def test_bleu_clips_a_repeated_word_at_the_most_that_one_reference_has() -> None:
    references = ["the cat is on the mat", "there is a cat on the mat"]
    assert bleu_values(("the the the the the the the", references))[0] == pytest.approx(2 / 7, abs=1e-8)


def test_bleu_punishes_a_short_corpus_and_no_long_one() -> None:
    assert bleu_values(("a dog", ["a dog runs fast"]))[:2] == pytest.approx([math.exp(-1)] * 2, abs=1e-8)
    assert bleu_values(("a dog runs fast", ["a dog"]))[0] == pytest.approx(2 / 4, abs=1e-8)


def test_bleu_of_an_order_that_no_prediction_has_is_small_and_not_zero() -> None:
    assert bleu_values(("a dog runs", ["a dog runs"])) == pytest.approx([1, 1, 1, 1e-6 ** (1 / 4)], abs=1e-8)


def test_bleu_takes_the_closest_reference_and_of_two_the_shorter() -> None:
    _, counts = bleu(corpus(("a b c d", ["a", "a b c d e", "a b c"])))
    assert counts.tolist() == [[4, 3, 2, 1, 4, 3, 2, 1, 4, 3]]


def test_bleu_is_of_the_corpus_and_not_a_mean_over_images() -> None:
    right, wrong = ("a b c d e f g h", ["a b c d e f g h"]), ("x y", ["z w"])
    assert bleu_values(right, wrong)[0] == pytest.approx(8 / 10, abs=1e-8)


def test_cider_d_of_the_references_themselves_is_ten() -> None:
    pairs = [
        (text, [text]) for text in ("a brown dog runs fast", "two cats sit there quietly", "one red car drives by")
    ]
    assert cider_d(corpus(*pairs)).per_image == pytest.approx([10.0] * 3)


def test_cider_d_clips_repeats_and_punishes_another_length() -> None:
    found = cider_d(corpus(("dog dog runs", ["dog runs"]), ("cat sits", ["cat sits"])))
    one_word = 2 / math.sqrt(10)  # (min(2, 1) · 1 + 1 · 1) / (√5 · √2)
    two_words = 1 / math.sqrt(2)
    assert found.per_image == pytest.approx([10 * math.exp(-1 / 72) * (one_word + two_words) / 4, 10 * 2 / 4])


def test_cider_d_gives_nothing_for_words_of_every_image() -> None:
    found = cider_d(corpus(("a dog", ["a dog", "one dog"]), ("a dog", ["a dog", "some dog"])))
    assert found.value == 0.0


def test_cider_d_of_one_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"CIDEr-D was asked for on one image.*at least two"):
        cider_d(corpus(("a dog", ["a dog"])))


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    precision, recall = 2 / 4, 2 / 3
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(corpus(("a b c d", ["a c e"]))).value == pytest.approx(expected)


def test_rouge_l_takes_the_best_precision_and_the_best_recall_of_any_reference() -> None:
    # Precision 3/4 from the long reference, recall 1/1 from the short one.
    expected = (1 + 1.44) * 0.75 / (1 + 1.44 * 0.75)
    assert rouge_l(corpus(("a b c d", ["a b c x y z", "d"]))).value == pytest.approx(expected)


def test_an_empty_prediction_scores_nothing() -> None:
    pairs = [("", ["a dog runs"]), ("", ["two cats"])]
    assert bleu_values(*pairs) == pytest.approx([0] * 4, abs=1e-12)
    assert (cider_d(corpus(*pairs)).value, rouge_l(corpus(*pairs)).value) == (0.0, 0.0)


# What was published.


def test_the_example_of_nlg_eval_has_its_published_scores() -> None:
    """Sharma et al. (2017), nlg-eval: `examples/` and the scores its README prints for them, by the same scorers."""
    example = corpus(
        (
            "this is the model generated sentence1 which seems good enough",
            ["this is one reference sentence for sentence1", "this is one more reference sentence for sentence1"],
        ),
        (
            "this is sentence2 which has been generated by your model",
            [
                "this is a reference sentence for sentence2 which was generated by your model",
                "this is the second reference sentence for sentence2",
            ],
        ),
    )
    found = [score.value for score in bleu(example)[0]] + [cider_d(example).value, rouge_l(example).value]
    assert found == pytest.approx([0.55, 0.428174, 0.284043, 0.201143, 1.242192, 0.522104], abs=5e-7)


# Standard errors.


def test_a_mean_has_the_standard_error_of_a_mean() -> None:
    score = CaptionScore.mean("x", [1.0, 2.0, 4.0])
    assert score.value == pytest.approx(7 / 3)
    assert score.standard_error == pytest.approx(np.std([1, 2, 4], ddof=1) / math.sqrt(3))
    assert CaptionScore.mean("x", [1.0]).standard_error is None


def test_the_bootstrap_of_one_word_captions_agrees_with_the_binomial_error() -> None:
    # With one word a caption BLEU-1 is the share of right words, whose error is known.
    pairs = [("dog" if index % 10 < 3 else "cat", ["dog"]) for index in range(200)]
    score = bleu(corpus(*pairs), max_n=1)[0][0]
    assert score.value == pytest.approx(0.3, abs=1e-8)
    assert score.standard_error == pytest.approx(math.sqrt(0.3 * 0.7 / 200), rel=0.08)


def test_the_bootstrap_is_the_same_each_time_and_another_with_another_seed() -> None:
    words = ["a", "dog", "runs", "by", "the", "big", "tree", "and", "sits"]
    pairs = [(" ".join(words[at % 5 : at % 5 + 2 + at % 3]), [" ".join(words[at % 7 :])]) for at in range(60)]
    some_pairs = corpus(*pairs)
    first, again, other = (bleu(some_pairs, seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first[0].standard_error != other[0].standard_error
    assert bleu(corpus(("a", ["a"])))[0][0].standard_error is None


def test_an_order_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="max_n is 0"):
        bleu(corpus(("a", ["a"])), max_n=0)
