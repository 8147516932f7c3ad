"""Retrieval against brute force and CLIP_benchmark's definition of recall, with ties and several right answers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.data.sets.digits import load_digits
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.registry import load_evaluator
from rcc.evaluation.retrieval.evaluator import RetrievalEvaluator, ground_truth
from rcc.evaluation.retrieval.metrics import retrieval_metrics
from rcc.evaluation.retrieval.ranks import Pairs, retrieval_ranks
from rcc.measurement import Measurement, Metric
from rcc.models.transformers.clip import CLIPWrapper

NAMES = [f"{way}_recall_at_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[list[int]], list[list[int]]]:
    """Embeddings of eighths, so that products are exact and ties frequent, and captions: one to three an image."""
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=9))
    width = draw(st.integers(1, 3))
    numbers = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    images, texts = (
        torch.tensor(draw(st.lists(numbers, min_size=n, max_size=n))) / 8.0 for n in (len(counts), sum(counts))
    )
    order = draw(st.permutations(range(sum(counts))))
    ends = np.cumsum([0, *counts])
    img2txt = [[order[index] for index in range(*ends_of)] for ends_of in pairwise(ends)]
    txt2img = [[next(i for i, found in enumerate(img2txt) if text in found)] for text in range(sum(counts))]
    return images, texts, img2txt, txt2img


def ranks_one_by_one(scores: Tensor, right: list[list[int]]) -> list[int]:
    """Sort each query's answers, best first, the wrong ones first among equals, and look for the first right one."""
    found = []
    for row, own in zip(scores.tolist(), right, strict=True):
        order = sorted(range(len(row)), key=lambda answer: (-row[answer], answer in own))
        found.append(1 + next(place for place, answer in enumerate(order) if answer in own))
    return found


def clip_benchmark_recall(scores: Tensor, right: list[list[int]], k: int) -> float:
    """Share of queries for which positives among the k largest scores, over all positives, is above zero."""
    positive = torch.zeros(scores.shape, dtype=torch.bool)
    for query, own in enumerate(right):
        positive[query, own] = True
    top = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float((positive.gather(1, top).sum(1) / positive.sum(1) > 0).float().mean())


@given(problems())
@settings(deadline=None)
def test_ranks_are_those_of_brute_force(problem: tuple[Tensor, Tensor, list[list[int]], list[list[int]]]) -> None:
    images, texts, img2txt, txt2img = problem
    ranks = retrieval_ranks(images, texts, Pairs.of(img2txt, txt2img, len(images), len(texts)))
    assert ranks.of_images.tolist() == ranks_one_by_one(images @ texts.T, img2txt)
    assert ranks.of_texts.tolist() == ranks_one_by_one(texts @ images.T, txt2img)


@given(problems(), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None)
def test_blocks_do_not_matter(
    problem: tuple[Tensor, Tensor, list[list[int]], list[list[int]]], rows: int, columns: int
) -> None:
    images, texts, img2txt, txt2img = problem
    pairs = Pairs.of(img2txt, txt2img, len(images), len(texts))
    whole, parts = (retrieval_ranks(images, texts, pairs, block) for block in ((99, 99), (rows, columns)))
    assert torch.equal(whole.of_images, parts.of_images)
    assert torch.equal(whole.of_texts, parts.of_texts)


@given(problems(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_images_and_texts_does_not_matter(
    problem: tuple[Tensor, Tensor, list[list[int]], list[list[int]]], random: np.random.RandomState
) -> None:
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
def test_ties_never_help(problem: tuple[Tensor, Tensor, list[list[int]], list[list[int]]]) -> None:
    images, texts, img2txt, txt2img = problem
    found = RetrievalEvaluator().compute_retrieval_metrics(images, texts, img2txt, txt2img)
    for k in (1, 5, 10):
        assert found[f"image_to_text_recall_at_{k}"] <= clip_benchmark_recall(images @ texts.T, img2txt, k) + 1e-6
        assert found[f"text_to_image_recall_at_{k}"] <= clip_benchmark_recall(texts @ images.T, txt2img, k) + 1e-6


def test_one_embedding_for_everything_is_the_worst_there_is() -> None:
    pairs = Pairs.of([[0, 1], [2]], [[0], [0], [1]], 2, 3)
    ranks = retrieval_ranks(torch.ones(2, 4), torch.ones(3, 4), pairs)
    assert (ranks.of_images.tolist(), ranks.of_texts.tolist()) == ([2, 3], [2, 2, 2])


def test_equal_vectors_tie_wherever_they_stand() -> None:
    """Float32 products of the same two vectors can differ with their place in a matrix; ranks must not."""
    generator = torch.Generator().manual_seed(0)
    image, text = torch.nn.functional.normalize(torch.randn(2, 513, generator=generator), dim=1)
    count = 57
    right = [[index] for index in range(count)]
    pairs = Pairs.of(right, right, count, count)
    ranks = retrieval_ranks(image.repeat(count, 1), text.repeat(count, 1), pairs, (10, 13))
    assert set(ranks.of_images.tolist()) == set(ranks.of_texts.tolist()) == {count}


def by_name(ranks: Pairs, of_images: list[int], of_texts: list[int]) -> dict[str, Metric]:
    from rcc.evaluation.retrieval.ranks import Ranks

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
    assert median.standard_error == (55 - 46) / 2  # the deviation of a uniform sample's median is 5
    assert (found["text_to_image_median_rank"].value, found["text_to_image_median_rank"].standard_error) == (7.0, 0.0)


@pytest.mark.parametrize(
    ("img2txt", "txt2img", "message"),
    [
        ([[0], []], [[0], [1]], r"img2txt_gt has no right answer for 1 entries, first \[1\]"),
        ([[0]], [[0], [0]], "img2txt_gt has 1 entries for 2 embeddings"),
        ([[0], [1]], [[0], [0]], r"disagree on 2 pairs \(image, text\), first \[\(0, 1\), \(1, 1\)\]"),
        ([[0], [2]], [[0], [1]], r"there is no such \(image, text\): \[\(1, 2\)\]"),
    ],
)
def test_ground_truth_that_does_not_fit_is_refused(
    img2txt: list[list[int]], txt2img: list[list[int]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        RetrievalEvaluator().compute_retrieval_metrics(torch.ones(2, 3), torch.ones(2, 3), img2txt, txt2img)


@pytest.fixture(scope="module")
def captioned() -> Splits:
    """Digits with one to three captions each, some of them shared by several images."""
    digits = load_digits(train=4, calibration=4, selection=4, test=20)
    parts = []
    for role, split in digits:
        written = tuple(
            tuple(template.format(text) for template in digits.templates[: 1 + index % 3])
            for index, text in enumerate(digits.class_names[label] for label in split.labels)
        )
        parts.append(Split(role, split.images, written))
    return Splits(*parts)


def test_the_evaluator_ranks_the_captions_of_a_split(clip: CLIPWrapper, captioned: Splits) -> None:
    split = captioned.test
    measured = RetrievalEvaluator(batch_size=6).evaluate(clip, split, captioned)
    texts = [text for captions in split.captions for text in captions]
    scores = clip.encode_image(list(split.images)) @ clip.encode_text(texts).T
    img2txt, txt2img = ground_truth(split)
    for recall_at_1, similarities, right in (
        ("image_to_text_recall_at_10", scores, img2txt),
        ("text_to_image_recall_at_10", scores.T, txt2img),
    ):
        assert measured[recall_at_1].value <= clip_benchmark_recall(similarities, right, 10) + 1e-6
    assert (measured.primary, measured.split, measured.samples) == ("r_mean", "test", 20)
    assert len(measured.details["image_to_text_ranks"]) == 20
    assert len(measured.details["text_to_image_ranks"]) == len(texts)
    assert set(measured.details["per_image"]) == {"r_mean", *NAMES}
    for name, values in measured.details["per_image"].items():
        assert len(values) == 20
        assert np.mean(values) == pytest.approx(measured[name].value)
    assert Measurement.from_json(measured.to_json()) == measured


def test_a_trained_model_finds_captions_that_no_two_images_share(clip_tiny: CLIPWrapper, captioned: Splits) -> None:
    labels = load_digits(train=4, calibration=4, selection=4, test=20).test.labels
    _, first = np.unique(labels, return_index=True)
    split = captioned.test.subset(first)
    measured = RetrievalEvaluator().evaluate(clip_tiny, split, captioned)
    assert measured["r_mean"].value == 1.0
    assert measured["image_to_text_median_rank"].value == 1.0


def test_data_without_captions_is_refused_with_what_it_has(clip: CLIPWrapper) -> None:
    digits = load_digits(train=4, calibration=4, selection=4, test=20)
    with pytest.raises(UserError, match="has none: it has 20 images and 10 class names") as error:
        RetrievalEvaluator().evaluate(clip, digits.test, digits)
    assert "data=flickr8k" in str(error.value)


def test_re_ranking_needs_a_model_that_matches(clip: CLIPWrapper, captioned: Splits) -> None:
    evaluator = load_evaluator("retrieval", rerank_top_k=4)
    with pytest.raises(UserError, match="the model 'clip' does not"):
        evaluator.evaluate(clip, captioned.test, captioned)
    with pytest.raises(UserError, match="rerank_top_k is -1"):
        load_evaluator("retrieval", rerank_top_k=-1)
