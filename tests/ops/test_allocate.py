"""Sharing a budget: exact totals, the optimum against every other split, and the cap."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops.allocate import allocate, energy_lost, outlier_shares
from rcc.ops.prune import squared_norm
from rcc.ops.scores import Scores
from rcc.ops.select import count_selected


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


def test_below_a_share_of_one_no_pool_is_emptied() -> None:
    pools = [Scores.of([torch.full((size,), 1e-6)]) for size in (3, 40)] + [Scores.of([torch.ones(40)])]
    assert allocate(pools, [1.0] * 3, total=60, most=0.99) == [2, 39, 19]
    assert allocate(pools, [1.0] * 3, total=60, most=1.0) == [3, 40, 17]


def test_pools_that_are_empty_already_stay_so_and_the_others_lose_no_more_for_it() -> None:
    pools = [Scores.of([torch.zeros(10)]), Scores.of([torch.linspace(1, 2, 10)])]
    assert allocate(pools, [0.0, 1.0], total=12, most=0.5) == [10, 2]
    with pytest.raises(ValueError, match="cannot remove 16 values from pools that can give 15"):
        allocate(pools, [0.0, 1.0], total=16, most=0.5)


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5), share=st.floats(0, 1), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_pools_of_one_norm_give_what_a_sort_of_all_values_says(sizes: list[int], share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [np.abs(rng.integers(-9, 9, size)).astype(np.float32) for size in sizes]
    total = round(share * sum(sizes))
    owners = np.repeat(np.arange(len(sizes)), sizes)
    least = owners[np.argsort(np.concatenate(arrays), kind="stable")[:total]]  # ties: the earlier pool first
    wanted = [int((least == place).sum()) for place in range(len(sizes))]
    assert allocate([Scores.of([torch.from_numpy(a)]) for a in arrays], [2.0] * len(sizes), total, most=1.0) == wanted


def test_pools_far_from_their_limit_are_not_read_for_their_zeros() -> None:
    reads = 0

    def make(_: int) -> Tensor:
        nonlocal reads
        reads += 1
        return torch.arange(200.0) + 1

    count_selected(Scores([200] * 3, make), 300)
    selection, reads = reads, 0
    allocate([Scores([200], make) for _ in range(3)], [1.0] * 3, total=300, most=0.9)
    assert reads == selection


# ---- OWL


def owl(metrics: list[np.ndarray], target: float, spread: float, multiple: float) -> np.ndarray:
    """Yin et al. (2023), the mean taken over values; no clipping."""
    outliers = np.array([(metric > multiple * metric.mean()).mean() for metric in metrics])
    width = outliers.max() - outliers.min()
    kept = (outliers - outliers.min()) / width * 2 * spread if width else np.zeros(len(metrics))
    kept = kept - np.average(kept, weights=[metric.size for metric in metrics]) + (1 - target)
    return 1 - kept


@given(
    sizes=st.lists(st.integers(5, 200), min_size=1, max_size=6),
    target=st.floats(0.2, 0.8),
    multiple=st.sampled_from([2.0, 3.0, 5.0]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None)
def test_outlier_shares_are_the_formula_of_the_paper(
    sizes: list[int], target: float, multiple: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    metrics = [np.abs(rng.standard_t(2, size)).astype(np.float32) for size in sizes]
    pools = [Scores.of([torch.from_numpy(metric)]) for metric in metrics]
    shares = outlier_shares(pools, sizes, target, most=1.0, multiple=multiple)
    np.testing.assert_allclose(shares, owl(metrics, target, 0.08, multiple), atol=1e-9)


@pytest.mark.parametrize("target", [0.0, 0.03, 0.9, 0.97, 0.99])
def test_outlier_shares_that_are_cut_off_still_have_the_mean_wanted(target: float) -> None:
    spiked = torch.ones(300)
    spiked[:20] = 100.0
    pools = [Scores.of([tensor]) for tensor in (spiked, torch.ones(200), torch.ones(100))]
    shares = np.array(outlier_shares(pools, [300, 200, 100], target, most=0.99))
    assert np.average(shares, weights=[300, 200, 100]) == pytest.approx(target, abs=1e-9)
    assert shares.min() >= 0
    assert shares.max() <= 0.99
    assert shares[0] <= shares[1] == shares[2]


def test_layers_without_a_difference_in_outliers_all_get_the_target() -> None:
    pools = [Scores.of([torch.ones(30)]), Scores.of([torch.zeros(20)])]
    assert outlier_shares(pools, [30, 20], 0.6, most=0.99) == pytest.approx([0.6, 0.6])
