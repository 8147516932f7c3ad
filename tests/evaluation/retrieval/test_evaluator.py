"""Retrieval on a split: the captions of its images ranked, what is told of each image, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from toys.retrieval import clip_benchmark_recall

from rcc.data.sets.digits import load_digits
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.registry import load_evaluator
from rcc.evaluation.retrieval.evaluator import RetrievalEvaluator, ground_truth
from rcc.measurement import Measurement
from rcc.models.transformers.clip import CLIPWrapper

NAMES = [f"{way}_recall_at_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


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


def test_a_single_image_is_refused_since_whatever_is_found_is_right(clip: CLIPWrapper, captioned: Splits) -> None:
    with pytest.raises(UserError, match="split 'test' of the data has one image"):
        RetrievalEvaluator().check(clip, captioned.test.subset([0]), captioned)


def test_re_ranking_needs_a_model_that_matches(clip: CLIPWrapper, captioned: Splits) -> None:
    evaluator = load_evaluator("retrieval", rerank_top_k=4)
    with pytest.raises(UserError, match="the model 'clip' does not"):
        evaluator.evaluate(clip, captioned.test, captioned)
    with pytest.raises(UserError, match="rerank_top_k is -1"):
        load_evaluator("retrieval", rerank_top_k=-1)
