"""Rounding that weighs bits: against every choice tried one by one, and against plain rounding where bits are free."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.ops.rate import BIT, Rate, code_lengths, counts_of

LEVELS = 3


def values(seed: int) -> torch.Tensor:
    return 2 * torch.randn(200, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 200))
def test_each_value_takes_the_cheapest_of_its_nearest_number_the_next_towards_zero_and_zero(seed):
    scaled = values(seed)
    rate = Rate(code_lengths(counts_of(scaled.round().clamp(-LEVELS, LEVELS), LEVELS)))
    for value, found in zip(scaled.tolist(), rate.round(scaled).tolist(), strict=True):
        near = max(-LEVELS, min(LEVELS, round(value)))
        tried = {near, near - (near > 0) + (near < 0), 0}
        costs = {q: (value - q) ** 2 + BIT * float(rate.lengths[q + LEVELS]) for q in tried}
        assert costs[int(found)] == pytest.approx(min(costs.values()), abs=1e-6)


def test_where_bits_are_free_it_is_plain_rounding_and_where_they_are_dear_all_is_zero() -> None:
    scaled = values(1)
    lengths = code_lengths(counts_of(scaled.round().clamp(-LEVELS, LEVELS), LEVELS))
    assert torch.equal(Rate(lengths, 0.0).round(scaled), scaled.round().clamp(-LEVELS, LEVELS))
    assert not bool(Rate(lengths).round(scaled, 1e4).any())


def test_a_bit_is_worth_what_a_uniform_error_of_half_the_step_saves() -> None:
    # D(R) = c 4^−R has the slope −2 ln 2 · D at D = step² / 12.
    assert pytest.approx(2 * math.log(2) / 12) == BIT


def test_lengths_are_those_of_the_shares() -> None:
    counts = counts_of(torch.tensor([0.0] * 600 + [1.0] * 300 + [-1.0] * 100), 1)
    assert counts.tolist() == [100, 600, 300]
    assert code_lengths(counts).tolist() == pytest.approx([math.log2(10), math.log2(1 / 0.6), math.log2(1 / 0.3)], 1e-3)
