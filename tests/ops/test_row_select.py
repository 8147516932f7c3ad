"""Budgets over rows and the smallest of each row, against counting and sorting in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops import row_select
from rcc.ops.row_select import select_by_row, share_among_rows


@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=3),
    share=st.floats(0, 1),
    kinds=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=150)
def test_the_total_is_exact_and_each_row_gives_its_smallest(shapes, share, kinds, seed):
    rng = np.random.default_rng(seed)
    scores = [torch.from_numpy(rng.integers(-kinds, kinds + 1, shape).astype(np.float32)) for shape in shapes]
    total = sum(score.numel() for score in scores)
    count, there = round(share * total), sum(int((score == 0).sum()) for score in scores)
    masks = list(select_by_row(scores, count))
    gone = sum(int((mask | (score == 0)).sum()) for mask, score in zip(masks, scores, strict=True))
    assert gone == max(count, there)
    for mask, score in zip(masks, scores, strict=True):
        for row, chosen in zip(score.numpy(), mask.numpy(), strict=True):
            expected = np.argsort(np.abs(row), kind="stable")[: chosen.sum()]
            assert set(np.flatnonzero(chosen)) == set(expected)


@given(
    width=st.integers(1, 200),
    rows=st.integers(1, 12),
    kinds=st.sampled_from([1, 3, 1000]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    odd=st.sampled_from([-0.0, float("inf"), float("nan")]),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=150)
def test_each_row_gives_what_a_stable_sort_of_it_puts_first(width, rows, kinds, dtype, odd, share, seed):
    rng = np.random.default_rng(seed)
    drawn = np.round(rng.normal(size=(rows, width)) * kinds) / kinds
    drawn[rng.random(drawn.shape) < 0.1] = odd
    score = torch.from_numpy(drawn).to(dtype)
    (mask,) = select_by_row([score], round(share * score.numel()))
    for row, chosen in zip(score.double().numpy(), mask.numpy(), strict=True):
        expected = np.argsort(np.abs(row), kind="stable")[: chosen.sum()]
        assert set(np.flatnonzero(chosen)) == set(expected)


def test_rows_searched_in_batches_and_at_once_give_the_same(monkeypatch):
    score = torch.randn(50, 40, generator=torch.Generator().manual_seed(2)).round(decimals=1)
    (at_once,) = select_by_row([score], 1300)
    monkeypatch.setattr(row_select, "BATCH", 100)
    (in_batches,) = select_by_row([score], 1300)
    assert torch.equal(at_once, in_batches)
    assert int((at_once | (score == 0)).sum()) == 1300


def test_a_matrix_without_columns_gives_nothing():
    masks = list(select_by_row([torch.empty(3, 0), torch.ones(2, 2)], 2))
    assert [tuple(mask.shape) for mask in masks] == [(3, 0), (2, 2)]
    assert masks[1].tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("count", [0, 1, 37, 100, 159, 160])
def test_rows_of_one_width_without_zeros_differ_by_one_at_most(count):
    masks = list(select_by_row([torch.rand(10, 16, generator=torch.Generator().manual_seed(1)) + 0.1], count))
    rows = masks[0].sum(1)
    assert int(rows.sum()) == count
    assert int(rows.max() - rows.min()) <= 1


def test_rows_of_two_widths_give_the_same_share():
    counts = share_among_rows(torch.tensor([100] * 4 + [20] * 5), torch.zeros(9, dtype=torch.int64), 250)
    assert counts.tolist() == [50] * 4 + [10] * 5


def test_a_row_with_more_zeros_than_its_share_relieves_the_others():
    counts = share_among_rows(torch.tensor([10, 10, 10]), torch.tensor([8, 0, 1]), 15)
    assert counts.tolist()[0] == 8
    assert sorted(counts.tolist()[1:]) == [3, 4]


def test_more_zeros_than_asked_for_are_left_as_they_are():
    score = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    (mask,) = select_by_row([score], 2)
    assert torch.equal(mask, score == 0)


def test_a_count_out_of_range_is_refused():
    with pytest.raises(ValueError, match="cannot select 7 of 6"):
        select_by_row([torch.ones(2, 3)], 7)
