"""Exact selection: counts, order on ties, every dtype, lazy scores, and agreement with a full sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops import cut, scores
from rcc.ops.scores import KEYS, Scores
from rcc.ops.select import count_selected, random_scores, select_smallest, thresholds_of_smallest


def by_sorting(tensors: list[Tensor], count: int) -> list[Tensor]:
    """The same selection by a stable argsort of everything, in numpy."""
    flat = np.concatenate([tensor.double().abs().flatten().numpy() for tensor in tensors])
    chosen = np.zeros(flat.size, dtype=bool)
    chosen[np.argsort(flat, kind="stable")[:count]] = True
    parts = np.split(chosen, np.cumsum([tensor.numel() for tensor in tensors])[:-1])
    return [torch.from_numpy(part).view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.fixture
def searching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which small tensors take the way of large ones: sample, bracket, probe in chunks, gather."""
    monkeypatch.setattr(scores, "CHUNK", 72)
    monkeypatch.setattr(cut, "DIRECT", 16)


def bits(tensors: list[Tensor]) -> list[list[int]]:
    return [tensor.contiguous().view(KEYS[tensor.dtype]).flatten().tolist() for tensor in tensors]


def zeroed(tensors: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
    return [torch.where(mask, torch.zeros_like(tensor), tensor) for tensor, mask in zip(tensors, masks, strict=True)]


VALUES = st.lists(
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, 1e-42, -1e-42, 2.0, float("inf")])
    | st.floats(-1, 1, width=16, allow_nan=False),
    min_size=1,
    max_size=200,
)


@given(
    values=VALUES, share=st.floats(0, 1), cut=st.floats(0, 1), dtype=st.sampled_from([torch.float32, torch.bfloat16])
)
@settings(deadline=None)
def test_any_values_and_any_count_agree_with_a_stable_sort(
    values: list[float], share: float, cut: float, dtype: torch.dtype
) -> None:
    flat = torch.tensor(values).to(dtype)
    split = int(cut * len(values))
    tensors = [flat[:split], flat[split:]]
    count = round(share * len(values))
    masks = list(select_smallest(tensors, count))
    assert sum(int(mask.sum()) for mask in masks) == count
    assert same(masks, by_sorting(tensors, count))


@pytest.mark.usefixtures("searching")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_the_bracketed_search_agrees_with_a_stable_sort(dtype: torch.dtype, share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in ((40, 30), (7,), (3, 5, 2, 2), (500, 3))]
    tensors[3][::2] = 0
    count = round(share * sum(tensor.numel() for tensor in tensors))
    assert same(list(select_smallest(tensors, count)), by_sorting(tensors, count))


@pytest.mark.usefixtures("searching")
@given(seed=st.integers(0, 10**6), kinds=st.integers(1, 6), share=st.floats(0, 1), spread=st.integers(-60, 60))
@settings(deadline=None, max_examples=60)
def test_the_bracketed_search_is_exact_among_many_duplicates(seed: int, kinds: int, share: float, spread: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randn(kinds, generator=generator) * 2.0**spread
    tensors = [levels[torch.randint(kinds, (size,), generator=generator)] for size in (300, 1, 200)]
    count = round(share * 501)
    assert same(list(select_smallest(tensors, count)), by_sorting(tensors, count))


@pytest.mark.usefixtures("searching")
def test_a_sample_that_misleads_costs_passes_and_not_exactness(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(1000.0)
    monkeypatch.setattr(cut, "_bracket", lambda *_: (7, 9, 3))
    assert same(list(select_smallest([values], 600)), by_sorting([values], 600))
    top = torch.tensor(float("inf")).view(torch.int32).item()
    monkeypatch.setattr(cut, "_bracket", lambda *_: (top - 1, top, 2))
    assert same(list(select_smallest([values], 600)), by_sorting([values], 600))


def prune_smallest_(tensors: list[Tensor], count: int) -> None:
    for tensor, threshold in zip(tensors, thresholds_of_smallest(tensors, count), strict=True):
        threshold.zero_(tensor)


@pytest.mark.usefixtures("searching")
@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 0.5, -0.5, 1e-7, 3.0, float("inf"), float("nan")]), max_size=40),
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    dtypes=st.lists(
        st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]), min_size=3, max_size=3
    ),
)
@settings(deadline=None, max_examples=150)
def test_pruning_in_place_writes_positive_zeros_where_a_stable_sort_says_and_nothing_else(
    values: list[float], seed: int, share: float, dtypes: list[torch.dtype]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.tensor(values), torch.randn(311, generator=generator), torch.randn(29, 17, generator=generator)]
    tensors = [tensor.to(dtype) for tensor, dtype in zip(drawn, dtypes, strict=True)]
    count = round(share * sum(tensor.numel() for tensor in tensors))
    wanted = zeroed(tensors, by_sorting(tensors, count))
    prune_smallest_(tensors, count)
    assert bits(tensors) == bits(wanted)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_at_true_sizes_the_values_that_stay_are_those_of_numpys_partition(share: float) -> None:
    generator = torch.Generator().manual_seed(5)
    tensors = [torch.randn(shape, generator=generator) for shape in ((700, 401), (64,), (513, 300))]
    flat = torch.cat([tensor.flatten() for tensor in tensors]).numpy().copy()
    count = round(share * flat.size)
    largest_gone = np.partition(np.abs(flat), count - 1)[count - 1]
    prune_smallest_(tensors, count)
    pruned = torch.cat([tensor.flatten() for tensor in tensors]).numpy()
    assert np.count_nonzero(pruned == 0) == count
    np.testing.assert_array_equal(pruned[np.abs(flat) > largest_gone], flat[np.abs(flat) > largest_gone])


def test_pruning_takes_place_in_the_tensors_own_memory_through_any_view() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, -0.0, 5.0], [-2.0, 3.0, 0.0]]))
    address = weight.data_ptr()
    prune_smallest_([weight.T], 3)  # in the order of the view: 1, -2, -0 | 3, 5, 0
    assert weight.tolist() == [[0.0, 0.0, 5.0], [-2.0, 3.0, 0.0]]
    assert weight.data_ptr() == address
    assert not torch.signbit(weight.detach()[0]).any()


def test_a_zero_that_is_not_selected_keeps_its_sign() -> None:
    values = torch.tensor([-0.0, -0.0, 1.0])
    prune_smallest_([values], 1)
    assert torch.signbit(values).tolist() == [False, True, False]


def test_a_threshold_between_two_half_precision_values_is_not_rounded_onto_the_upper_one() -> None:
    upper = torch.tensor([1.0078125]).bfloat16()  # the next after 1
    values = [torch.tensor([1.0077]), upper.clone(), torch.ones(1).bfloat16()]
    prune_smallest_(values, 2)
    assert [float(value) for value in values] == [0.0, float(upper), 0.0]


@pytest.mark.parametrize("count", [-1, 5])
def test_pruning_a_count_out_of_range_is_refused_and_changes_nothing(count: int) -> None:
    values = torch.ones(4)
    with pytest.raises(ValueError, match=f"cannot select {count} of 4"):
        prune_smallest_([values], count)
    assert values.tolist() == [1.0] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_not_a_number_ties_wherever_in_a_half_precision_tensor_it_stands(dtype: torch.dtype) -> None:
    values = torch.full((37,), float("nan"), dtype=dtype)
    assert next(select_smallest([values], 20)).nonzero().flatten().tolist() == list(range(20))


@pytest.mark.parametrize("extra", [-1, 0, 1, 5000])
def test_a_value_that_half_the_weights_have_takes_few_passes(monkeypatch: pytest.MonkeyPatch, extra: int) -> None:
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(1))
    values[::2] = 0
    count, sizes = 200_000 + extra, []
    probe = cut._probe
    monkeypatch.setattr(cut, "_probe", lambda scores, *rest: sizes.append(scores.numel) or probe(scores, *rest))
    assert same(list(select_smallest([values], count)), by_sorting([values], count))
    assert sizes.count(values.numel()) <= 3


def test_ties_go_by_tensor_and_then_by_flat_index() -> None:
    ones = [torch.ones(2, 2), -torch.ones(3)]
    masks = list(select_smallest(ones, 5))
    assert masks[0].all()
    assert masks[1].tolist() == [True, False, False]


def test_zero_of_either_sign_comes_before_the_smallest_denormal_and_nan_after_infinity() -> None:
    values = torch.tensor([float("nan"), float("inf"), 1e-45, -0.0, 0.0])
    order = [next(select_smallest([values], count)).tolist() for count in (2, 3, 4)]
    assert order == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]


def test_selections_are_nested() -> None:
    values = [torch.randn(50, 20, generator=torch.Generator().manual_seed(0)).round(decimals=1)]
    smaller, larger = (next(select_smallest(values, count)) for count in (333, 334))
    assert bool((smaller <= larger).all())


def test_half_precision_and_float32_compare_by_value_in_one_list() -> None:
    tensors = [torch.tensor([0.3, 0.1]), torch.tensor([0.2, 0.4]).bfloat16()]
    assert count_selected(tensors, 2) == [1, 1]


def test_float64_values_closer_than_float32_can_tell_are_told_apart() -> None:
    values = torch.tensor([1 + 2e-12, 1 + 1e-12], dtype=torch.float64)
    assert next(select_smallest([values], 1)).tolist() == [False, True]


def test_a_view_that_is_not_contiguous_is_masked_in_its_own_order() -> None:
    values = torch.arange(6.0).view(2, 3).T
    assert next(select_smallest([values], 2)).tolist() == [[True, False], [True, False], [False, False]]


def test_a_weight_that_asks_for_gradients_is_selected_from_without_a_graph() -> None:
    mask = next(select_smallest([torch.nn.Parameter(torch.ones(3))], 1))
    assert mask.tolist() == [True, False, False]
    assert not mask.requires_grad


@pytest.mark.parametrize("count", [-1, 5])
def test_a_count_out_of_range_is_refused_before_anything_is_made(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot select {count} of 4"):
        select_smallest([torch.ones(4)], count)


@pytest.mark.usefixtures("searching")
def test_lazy_scores_are_asked_one_at_a_time_and_changed_only_after_their_mask() -> None:
    tensors = [torch.randn(200, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    wanted = by_sorting(tensors, 500)
    masks = select_smallest(Scores([200] * 4, lambda index: tensors[index]), 500)
    for index, mask in enumerate(masks):
        assert torch.equal(mask, wanted[index])
        tensors[index] = torch.full((200,), float("nan"))


def test_random_scores_repeat_for_a_seed_and_put_zeros_first() -> None:
    values = torch.tensor([[1.0, 0.0], [-2.0, 3.0]]).bfloat16()
    scores = random_scores(values, 5)
    assert torch.equal(scores, random_scores(values, 5))
    assert not torch.equal(scores, random_scores(values, 6))
    assert scores[0, 1] == 0
    assert bool((scores[values != 0] > 0).all())
