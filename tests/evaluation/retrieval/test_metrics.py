"""Recall against CLIP_benchmark's definition, standard errors and medians against hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.retrieval import Problem, clip_benchmark_recall, problems

from rcc.evaluation.retrieval.evaluator import RetrievalEvaluator
from rcc.evaluation.retrieval.metrics import recalls_per_image, retrieval_metrics
from rcc.evaluation.retrieval.ranks import Pairs, Ranks, retrieval_ranks
from rcc.measurement import Metric

NAMES = [f"{way}_recall_at_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


@given(problems(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_images_and_texts_does_not_matter(problem: Problem, random: np.random.RandomState) -> None:
    images, texts, img2txt, txt2img = problem
    evaluator = RetrievalEvaluator()
    before = evaluator.compute_retrieval_metrics(images, texts, img2txt, txt2img)
    of_image, of_text = list(range(len(images))), list(range(len(texts)))
    random.shuffle(of_image)
    random.shuffle(of_text)
    moved_img2txt = [[of_text.index(text) for text in img2txt[old]] for old in of_image]
    moved_txt2img = [[of_image.index(image) for image in txt2img[old]] for old in of_text]
    after = evaluator.compute_retrieval_metrics(images[of_image], texts[of_text], moved_img2txt, moved_txt2img)
    assert after == pytest.approx(before)


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_recall_is_clip_benchmarks_where_nothing_ties(seed: int, count: int, captions: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 8, generator=generator)
    texts = torch.randn(count * captions, 8, generator=generator)
    img2txt = [list(range(i * captions, (i + 1) * captions)) for i in range(count)]
    txt2img = [[text // captions] for text in range(count * captions)]
    found = RetrievalEvaluator().compute_retrieval_metrics(images, texts, img2txt, txt2img)
    for k in (1, 5, 10):
        expected = (
            clip_benchmark_recall(images @ texts.T, img2txt, k),
            clip_benchmark_recall(texts @ images.T, txt2img, k),
        )
        both = found[f"image_to_text_recall_at_{k}"], found[f"text_to_image_recall_at_{k}"]
        assert both == pytest.approx(expected)
    assert found["r_mean"] == pytest.approx(np.mean([found[name] for name in NAMES]))


@given(problems())
@settings(deadline=None)
def test_ties_never_help(problem: Problem) -> None:
    images, texts, img2txt, txt2img = problem
    found = RetrievalEvaluator().compute_retrieval_metrics(images, texts, img2txt, txt2img)
    for k in (1, 5, 10):
        assert found[f"image_to_text_recall_at_{k}"] <= clip_benchmark_recall(images @ texts.T, img2txt, k) + 1e-6
        assert found[f"text_to_image_recall_at_{k}"] <= clip_benchmark_recall(texts @ images.T, txt2img, k) + 1e-6


def by_name(ranks: Pairs, of_images: list[int], of_texts: list[int]) -> dict[str, Metric]:
    found = retrieval_metrics(Ranks(torch.tensor(of_images), torch.tensor(of_texts)), ranks)
    return {metric.name: metric for metric in found}


def test_standard_errors_of_a_hand_made_case() -> None:
    """Three images with two captions each. Captions that stand and fall together say no more than one would."""
    pairs = Pairs.of([[0, 1], [2, 3], [4, 5]], [[0], [0], [1], [1], [2], [2]], 3, 6)
    found = by_name(pairs, [1, 1, 20], [1, 1, 1, 1, 20, 20])
    assert [metric.name for metric in found.values()] == [
        "r_mean",
        *NAMES,
        "image_to_text_median_rank",
        "text_to_image_median_rank",
    ]
    binomial = math.sqrt(2 / 3 * 1 / 3 / 3)
    for name in ("r_mean", *NAMES):
        assert found[name].value == pytest.approx(2 / 3)
        assert found[name].standard_error == pytest.approx(binomial)  # not √(p(1 − p)/6) for the captions
    apart = by_name(pairs, [1, 1, 20], [1, 20, 1, 20, 1, 20])["text_to_image_recall_at_1"]
    assert (apart.value, apart.standard_error) == (0.5, 0.0)


def test_medians_and_their_errors() -> None:
    count = 100
    one_each = [[index] for index in range(count)]
    found = by_name(Pairs.of(one_each, one_each, count, count), list(range(1, 101)), [7] * count)
    median = found["image_to_text_median_rank"]
    assert (median.value, median.unit, median.higher_is_better) == (50.5, "rank", False)
    assert (median.interval.low, median.interval.high) == (40.0, 61.0)  # Wilson's 40.4 to 59.6 of 100, to whole ranks
    assert median.standard_error == pytest.approx(21 / (2 * 1.96), rel=1e-3)  # a uniform sample's median deviates by 5
    assert (found["text_to_image_median_rank"].value, found["text_to_image_median_rank"].standard_error) == (7.0, 0.0)


@given(problems())
@settings(deadline=None)
def test_what_each_image_adds_has_the_metrics_for_its_mean(problem: Problem) -> None:
    images, texts, img2txt, txt2img = problem
    pairs = Pairs.of(img2txt, txt2img, len(images), len(texts))
    ranks = retrieval_ranks(images, texts, pairs)
    metrics = {metric.name: metric.value for metric in retrieval_metrics(ranks, pairs)}
    found = recalls_per_image(ranks, pairs)
    assert list(found) == ["r_mean", *NAMES]
    for name, values in found.items():
        assert len(values) == len(images)
        assert np.mean(values) == pytest.approx(metrics[name])
