"""N:M masks against sorting each group in Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops.patterns import pattern_count, pattern_mask


@given(rows=st.integers(1, 4), groups=st.integers(1, 4), m=st.integers(1, 8), kinds=st.integers(1, 6), data=st.data())
@settings(deadline=None, max_examples=80)
def test_each_group_keeps_its_largest_and_of_equals_the_lower_column(
    rows: int, groups: int, m: int, kinds: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, m))
    seed = data.draw(st.integers(0, 10_000))
    scores = torch.randint(kinds, (rows, groups * m), generator=torch.Generator().manual_seed(seed)).float()
    mask = pattern_mask(scores, n, m)
    for row in range(rows):
        for first in range(0, groups * m, m):
            group = scores[row, first : first + m].tolist()
            kept = sorted(range(m), key=lambda place: (-group[place], place))[:n]
            assert mask[row, first : first + m].nonzero().view(-1).tolist() == sorted(kept)


def test_a_transposed_view_is_read_in_its_own_order() -> None:
    scores = torch.tensor([[1.0, 5.0], [4.0, 2.0], [3.0, 3.0], [2.0, 9.0]]).T
    assert pattern_mask(scores, 2, 4).int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]


def test_a_width_that_m_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="2:4 needs a width divisible by 4, not 6"):
        pattern_mask(torch.ones(3, 6), 2, 4)


@pytest.mark.parametrize(("n", "m"), [(5, 4), (-1, 4), (0, 0)])
def test_what_is_no_pattern_is_refused(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"{n}:{m} is no pattern"):
        pattern_mask(torch.ones(2, 4), n, m)


def test_the_count_is_that_of_the_mask_within_what_is_allowed() -> None:
    scores = torch.rand(5, 12, generator=torch.Generator().manual_seed(0)) + 0.1
    within = scores < 0.5
    assert pattern_count((5, 12), 1, 4) == int(pattern_mask(scores, 1, 4).sum()) == 15
    kept = pattern_mask(scores.masked_fill(~within, 0.0), 2, 4) & within
    assert pattern_count((5, 12), 2, 4, within) == int(kept.sum()) < 30
