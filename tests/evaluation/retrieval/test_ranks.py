"""Ranks against brute force, with ties and several right answers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys.retrieval import Problem, problems

from rcc.errors import UserError
from rcc.evaluation.retrieval.ranks import Pairs, own_scores, retrieval_ranks, slices


def ranks_one_by_one(scores: Tensor, right: list[list[int]]) -> list[int]:
    """Sort each query's answers, best first, the wrong ones first among equals, and look for the first right one."""
    found = []
    for row, own in zip(scores.tolist(), right, strict=True):
        order = sorted(range(len(row)), key=lambda answer: (-row[answer], answer in own))
        found.append(1 + next(place for place, answer in enumerate(order) if answer in own))
    return found


@given(problems())
@settings(deadline=None)
def test_ranks_are_those_of_brute_force(problem: Problem) -> None:
    images, texts, img2txt, txt2img = problem
    ranks = retrieval_ranks(images, texts, Pairs.of(img2txt, txt2img, len(images), len(texts)))
    assert ranks.of_images.tolist() == ranks_one_by_one(images @ texts.T, img2txt)
    assert ranks.of_texts.tolist() == ranks_one_by_one(texts @ images.T, txt2img)


@given(problems(), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None)
def test_blocks_do_not_matter(problem: Problem, rows: int, columns: int) -> None:
    images, texts, img2txt, txt2img = problem
    pairs = Pairs.of(img2txt, txt2img, len(images), len(texts))
    whole, parts = (retrieval_ranks(images, texts, pairs, block) for block in ((99, 99), (rows, columns)))
    assert torch.equal(whole.of_images, parts.of_images)
    assert torch.equal(whole.of_texts, parts.of_texts)


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
        Pairs.of(img2txt, txt2img, 2, 2)


PAIRS = Pairs.of([[0, 3], [1], [2, 3]], [[0], [1], [2], [0, 2]], 3, 4)
"""Three images and four texts, of which the last is right for two images."""


def test_pairs_are_sorted_by_image_whatever_the_order_of_the_ground_truth() -> None:
    assert [PAIRS.image.tolist(), PAIRS.text.tolist()] == [[0, 0, 1, 2, 2], [0, 3, 1, 2, 3]]
    turned = Pairs.of([[3, 0], [1], [3, 2]], [[0], [1], [2], [2, 0]], 3, 4)
    assert torch.equal(turned.text, PAIRS.text)


def test_pairs_of_a_block_are_places_in_the_block() -> None:
    image, text = PAIRS.within(slice(1, 3), slice(2, 4))
    assert [image.tolist(), text.tolist()] == [[1, 1], [0, 1]]
    assert PAIRS.within(slice(1, 2), slice(2, 4))[0].tolist() == []


def test_pairs_change_over_and_back() -> None:
    back = PAIRS.transposed()
    assert [back.image.tolist(), back.text.tolist()] == [[0, 1, 2, 3, 3], [0, 1, 2, 0, 2]]
    assert (back.images, back.texts) == (4, 3)
    assert torch.equal(back.transposed().text, PAIRS.text)


def test_the_score_of_each_right_pair_is_its_inner_product() -> None:
    images, texts = torch.arange(6.0).reshape(3, 2), torch.arange(8.0).reshape(4, 2)
    scores = (images @ texts.T)[PAIRS.image, PAIRS.text]
    assert own_scores(images, texts, PAIRS).tolist() == scores.tolist()


def test_slices_cover_a_length_once() -> None:
    assert [*slices(7, 3)] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert [*slices(0, 3)] == []
