"""Sharing a budget: exact totals, the optimum against every other split, and the cap."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops.allocate import allocate, energy_lost
from rcc.ops.prune import squared_norm
from rcc.ops.select import Scores


def pools_of(*tensors: Tensor) -> tuple[list[Scores], list[float]]:
    return [Scores.of([tensor]) for tensor in tensors], [squared_norm(tensor) ** 0.5 for tensor in tensors]


def test_energy_lost_is_the_share_of_the_smallest_squares() -> None:
    assert energy_lost([torch.tensor([1.0, -2.0]), torch.tensor([[3.0], [0.0]])], 2) == pytest.approx(1 / 14)
    assert energy_lost([torch.zeros(4)], 2) == 0.0


def test_no_other_split_of_the_total_has_a_smaller_sum_of_relative_errors() -> None:
    generator = torch.Generator().manual_seed(2)
    tensors = [torch.randn(size, generator=generator) * scale for size, scale in ((6, 1.0), (9, 30.0), (4, 0.01))]
    counts = allocate(*pools_of(*tensors), total=11, most=1.0)

    def error(split: tuple[int, ...]) -> float:
        return sum(energy_lost([tensor], count) for tensor, count in zip(tensors, split, strict=True))

    splits = [split for split in product(range(7), range(10), range(5)) if sum(split) == 11]
    assert error(tuple(counts)) == pytest.approx(min(map(error, splits)))


def test_the_scale_of_a_layer_does_not_matter() -> None:
    weight = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    assert allocate(*pools_of(weight, weight * 1024), total=100, most=0.99) == [50, 50]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0, 0.99),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None)
def test_the_total_is_exact_and_no_pool_goes_beyond_its_cap(
    sizes: list[int], share: float, zeros: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_t(2, size) * (rng.random(size) >= zeros) for size in sizes]
    tensors = [torch.from_numpy(array).float() for array in arrays]
    limits = [max(min(np.ceil(0.99 * len(a)), len(a) - 1), int((a.astype(np.float32) == 0).sum())) for a in arrays]
    total = min(round(share * sum(sizes)), int(sum(limits)))
    counts = allocate(*pools_of(*tensors), total=total, most=0.99)
    assert sum(counts) == total
    for count, tensor, limit in zip(counts, tensors, limits, strict=True):
        there = int((tensor == 0).sum())
        assert 0 <= count <= limit
        if total >= sum(int((other == 0).sum()) for other in tensors):
            assert count >= there


def test_a_pool_that_costs_nothing_is_capped_and_the_rest_falls_to_the_others() -> None:
    cheap = torch.cat([torch.full((99,), 1e-6), torch.ones(1)])
    dear = torch.linspace(1, 2, 100)
    assert allocate(*pools_of(cheap, dear), total=120, most=0.9) == [90, 30]


def test_values_too_small_for_float32_quotients_still_come_after_zeros() -> None:
    tiny = torch.tensor([1e-45, 1e30])
    zeros = torch.tensor([0.0, 1.0])
    assert allocate(*pools_of(tiny, zeros), total=1, most=1.0) == [0, 1]


def test_a_total_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot remove 11 values from pools that can give 10"):
        allocate(*pools_of(torch.ones(10)), total=11, most=1.0)
