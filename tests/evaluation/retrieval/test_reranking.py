"""Re-ranking by a matcher against brute force, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits
from rcc.errors import WorkError
from rcc.evaluation.retrieval.evaluator import RetrievalEvaluator, ground_truth
from rcc.models.own.module import ModuleAdapter

COUNT, CAPTIONS = 7, 2
TEXTS = tuple(tuple(f"text {image * CAPTIONS + place}" for place in range(CAPTIONS)) for image in range(COUNT))


class TableMatcher(ModuleAdapter):
    """Embeds and matches by tables: an image's index is its grey level, a text's index its last word."""

    def __init__(self, images: Tensor, texts: Tensor, probabilities: Tensor) -> None:
        module = nn.Linear(1, 1)
        super().__init__(module, prepare=self._indices, outputs=self._embeddings)
        self.images, self.texts, self.probabilities = images, texts, probabilities
        self.asked: Counter[tuple[int, int]] = Counter()

    def _indices(self, images: Sequence[Any] | None, texts: Sequence[str] | None) -> dict[str, Tensor]:
        if images is not None:
            return {"image": torch.tensor([grey(image) for image in images])}
        assert texts is not None
        return {"text": torch.tensor([int(text.split()[-1]) for text in texts])}

    def _embeddings(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        tables = {"image": self.images, "text": self.texts}
        return {f"{name}_embeds": tables[name][indices] for name, indices in batch.items()}

    def match(self, images: Sequence[Any], texts: Sequence[str]) -> Tensor:
        assert not self.module.training
        pairs = [(grey(image), int(text.split()[-1])) for image, text in zip(images, texts, strict=True)]
        self.asked.update(pairs)
        return torch.stack([self.probabilities[pair] for pair in pairs])


def grey(image: Image.Image) -> int:
    return int(np.asarray(image)[0, 0, 0])


class CountingImages(ArrayImages):
    decoded = 0

    def _decoded(self, index: int) -> Image.Image:
        CountingImages.decoded += 1
        return super()._decoded(index)


def captioned() -> Splits:
    def images(first: int, count: int) -> CountingImages:
        return CountingImages(np.arange(first, first + count, dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3))

    others = [
        Split(role, images(100 + i, 1), (("a",),)) for i, role in enumerate(("train", "calibration", "selection"))
    ]
    return Splits(*others, Split("test", images(0, COUNT), TEXTS))


SPLITS = captioned()


def expected_ranks(scores: Tensor, matches: Tensor, right: list[list[int]], k: int) -> list[int]:
    """Sort by cosine, wrong answers first among equals; then the first k again by probability."""
    found = []
    for row, probabilities, own in zip(scores.tolist(), matches.tolist(), right, strict=True):
        order = sorted(range(len(row)), key=lambda answer: (-row[answer], answer in own))
        order[:k] = sorted(order[:k], key=lambda answer: -probabilities[answer])
        if any(answer in own for answer in order[:k]):
            found.append(1 + next(place for place, answer in enumerate(order) if answer in own))
        else:  # other right answers are never in the way
            best = max(row[answer] for answer in own)
            found.append(1 + sum(score >= best for answer, score in enumerate(row) if answer not in own))
    return found


@st.composite
def matchers(draw: st.DrawFn) -> TableMatcher:
    """Unit vectors of few directions and probabilities of quarters, so that both tie."""
    directions = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, -0.6]])
    chosen = [draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) for n in (COUNT, COUNT * CAPTIONS)]
    rows = st.lists(st.integers(0, 4), min_size=COUNT * CAPTIONS, max_size=COUNT * CAPTIONS)
    quarters = torch.tensor(draw(st.lists(rows, min_size=COUNT, max_size=COUNT))) / 4
    return TableMatcher(directions[chosen[0]], directions[chosen[1]], quarters)


@given(matchers(), st.integers(1, 20), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_ranks_are_those_of_brute_force(matcher: TableMatcher, k: int, batch_size: int) -> None:
    measured = RetrievalEvaluator(batch_size, rerank_top_k=k).evaluate(matcher, SPLITS.test, SPLITS)
    scores = (matcher.images.double() @ matcher.texts.double().T).float()
    img2txt, txt2img = ground_truth(SPLITS.test)
    assert measured.details["image_to_text_ranks"] == expected_ranks(scores, matcher.probabilities, img2txt, k)
    assert measured.details["text_to_image_ranks"] == expected_ranks(scores.T, matcher.probabilities.T, txt2img, k)
    assert f"first {k} answers by cosine" in measured.details["note"]


@given(matchers(), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_each_pair_is_matched_once_and_each_image_decoded_once(matcher: TableMatcher, k: int) -> None:
    evaluator = RetrievalEvaluator(batch_size=4, rerank_top_k=k)
    evaluator.evaluate(matcher, SPLITS.test, SPLITS)
    CountingImages.decoded = 0
    evaluator.evaluate(matcher, SPLITS.test, SPLITS)  # the embeddings are in the cache by now
    assert CountingImages.decoded == len({image for image, _ in matcher.asked}) <= COUNT
    assert set(matcher.asked.values()) == {2}
    assert len(matcher.asked) <= COUNT * min(k, COUNT * CAPTIONS) + COUNT * CAPTIONS * min(k, COUNT)


def test_a_perfect_matcher_makes_up_for_a_blind_encoder() -> None:
    right = torch.zeros(COUNT, COUNT * CAPTIONS)
    for image in range(COUNT):
        right[image, image * CAPTIONS : (image + 1) * CAPTIONS] = 1
    matcher = TableMatcher(torch.ones(COUNT, 2), torch.ones(COUNT * CAPTIONS, 2), right)
    found = RetrievalEvaluator(rerank_top_k=14).evaluate(matcher, SPLITS.test, SPLITS)
    assert found["r_mean"].value == 1.0
    without = RetrievalEvaluator().evaluate(matcher, SPLITS.test, SPLITS)
    assert without["text_to_image_recall_at_5"].value == 0.0


def test_matches_that_are_not_finite_are_reported() -> None:
    nothing = torch.full((COUNT, COUNT * CAPTIONS), torch.nan)
    matcher = TableMatcher(torch.ones(COUNT, 2), torch.ones(COUNT * CAPTIONS, 2), nothing)
    with pytest.raises(WorkError, match="NaN or infinite"):
        RetrievalEvaluator(rerank_top_k=2).evaluate(matcher, SPLITS.test, SPLITS)
