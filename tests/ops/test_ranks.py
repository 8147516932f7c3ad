"""Ranks under one budget against exhaustive search, at known answers, and the budget itself."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops.ranks import allocate_ranks


def layer(*values: float) -> torch.Tensor:
    return torch.tensor(sorted(values, reverse=True), dtype=torch.float64)


def spent(ranks, values, costs, dense) -> int:
    return sum(
        min(whole, rank * cost) if rank == tensor.numel() else rank * cost
        for rank, tensor, cost, whole in zip(ranks, values, costs, dense, strict=True)
    )


def error(ranks, values, energies) -> float:
    return sum(
        float(tensor[rank:].square().sum()) / energy
        for rank, tensor, energy in zip(ranks, values, energies, strict=True)
        if energy > 0
    )


def exhaustive(values, energies, costs, dense, budget, least) -> float:
    """The least error of all choices of ranks that fit."""
    choices = product(*(range(min(least, tensor.numel()), tensor.numel() + 1) for tensor in values))
    fitting = (ranks for ranks in choices if spent(ranks, values, costs, dense) <= budget)
    return min(error(ranks, values, energies) for ranks in fitting)


@st.composite
def layers(draw, one_cost: bool):
    count = draw(st.integers(1, 4))
    values = [layer(*draw(st.lists(st.floats(0, 9), min_size=1, max_size=6))) for _ in range(count)]
    energies = [float(tensor.square().sum()) * draw(st.floats(1, 2)) for tensor in values]
    costs = [4] * count if one_cost else [draw(st.integers(1, 9)) for _ in values]
    dense = [
        cost * tensor.numel() if one_cost else draw(st.integers(1, 2 * cost * tensor.numel()))
        for cost, tensor in zip(costs, values, strict=True)
    ]
    least = draw(st.integers(1, 3)) if not one_cost else 1
    floor = sum(
        min(min(whole, tensor.numel() * cost), least * cost)
        for tensor, cost, whole in zip(values, costs, dense, strict=True)
    )
    return values, energies, costs, dense, floor + draw(st.integers(0, 80)), least


@settings(max_examples=200)
@given(layers(one_cost=True))
def test_with_ranks_of_one_size_the_error_is_the_least_of_all_choices(case):
    values, energies, costs, dense, budget, _ = case
    ranks = allocate_ranks(*case)
    assert spent(ranks, values, costs, dense) <= budget
    assert error(ranks, values, energies) == pytest.approx(exhaustive(*case), abs=1e-9)


@settings(max_examples=300)
@given(layers(one_cost=False))
def test_the_budget_holds_and_the_error_is_within_one_step_of_the_least(case):
    values, energies, costs, dense, budget, least = case
    ranks = allocate_ranks(*case)
    used = spent(ranks, values, costs, dense)
    assert used <= budget
    assert all(rank >= min(least, tensor.numel()) for rank, tensor in zip(ranks, values, strict=True))
    # No further rank of any layer fits.
    for place, (rank, tensor) in enumerate(zip(ranks, values, strict=True)):
        if rank < tensor.numel():
            more = [*ranks[:place], rank + 1, *ranks[place + 1 :]]
            assert spent(more, values, costs, dense) > budget
    # A step is one rank, or at most what a layer loses at its least rank.
    curves = [(tensor, energy) for tensor, energy in zip(values, energies, strict=True) if energy > 0]
    step = max((float(tensor[least:].square().sum()) / energy for tensor, energy in curves), default=0.0)
    assert error(ranks, values, energies) <= exhaustive(*case) + step + 1e-9


def test_ranks_go_where_a_byte_gains_most():
    values = [layer(3, 2, 1), layer(3, 2, 1)]
    # Equal curves, but a rank of the second takes twice the bytes: the first is filled before.
    assert allocate_ranks(values, [14.0, 14.0], [1, 2], [9, 9], 5, 1) == [3, 1]
    # Equal costs, but the second carries much that no rank can reach: its relative gains are small.
    assert allocate_ranks(values, [14.0, 1400.0], [2, 2], [99, 99], 8, 1) == [3, 1]


def test_a_flat_spectrum_stays_dense_and_a_steep_one_is_factorised():
    flat, steep = layer(*[1.0] * 8), layer(8.0, *[0.01] * 7)
    # Rank 8 by factors takes 128, dense 64: four ranks cost as much as the whole.
    assert allocate_ranks([flat, steep], [8.0, 64.0], [16, 16], [64, 64], 96, 1) == [8, 2]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
def test_rounding_among_equal_steps_never_breaks_the_budget(value):
    values = [layer(*[value] * 7), layer(*[value] * 7)]
    energies = [float(tensor.square().sum()) for tensor in values]
    for budget in range(20, 141):
        ranks = allocate_ranks(values, energies, [10, 10], [70, 69], budget)
        assert spent(ranks, values, [10, 10], [70, 69]) <= budget


def test_a_large_layer_that_does_not_fit_dense_is_given_the_ranks_that_do():
    flat = layer(*[1.0] * 8)
    assert allocate_ranks([flat], [8.0], [16], [64], 63, 1) == [3]


def test_all_fits_a_large_budget_and_only_the_least_a_small_one():
    values = [layer(5, 4, 3), layer(2, 1)]
    assert allocate_ranks(values, [50.0, 5.0], [6, 5], [9, 6], 15) == [3, 2]
    assert allocate_ranks(values, [50.0, 5.0], [6, 5], [9, 6], 11) == [1, 1]


def test_a_layer_of_zeros_and_one_of_no_energy_get_the_least():
    values = [layer(0, 0, 0), layer(3, 2, 1), layer(3, 2, 1)]
    assert allocate_ranks(values, [0.0, 14.0, 0.0], [2, 2, 2], [9, 9, 9], 9) == [1, 2, 1]


def test_equal_gains_are_settled_the_same_way_every_time():
    values = [layer(1, 1, 1)] * 3
    assert allocate_ranks(values, [3.0] * 3, [1] * 3, [9] * 3, 5) == [3, 1, 1]


def test_no_layers_need_no_ranks():
    assert allocate_ranks([], [], [], [], 0) == []


def test_the_ranks_of_a_tower_are_quick_and_spend_the_budget_to_less_than_one_rank():
    values = [torch.arange(1, 769).double().rsqrt() * (1 + place / 72) for place in range(72)]
    energies = [float(tensor.square().sum()) for tensor in values]
    costs, dense = [1536] * 72, [768 * 768] * 72
    budget = 72 * 768 * 768 // 4
    ranks = allocate_ranks(values, energies, costs, dense, budget)
    assert 0 <= budget - spent(ranks, values, costs, dense) < 1536
    # Relative curves are the same in all layers: so are the ranks, to one.
    assert set(ranks) <= {96, 97, 95}


def test_what_cannot_be_met_is_refused_with_what_it_takes():
    with pytest.raises(ValueError, match="budget of 10 is below the 11"):
        allocate_ranks([layer(1, 1), layer(1, 1)], [2.0, 2.0], [6, 5], [99, 99], 10)
    with pytest.raises(ValueError, match="2 layers, 1 energies"):
        allocate_ranks([layer(1), layer(1)], [1.0], [1, 1], [1, 1], 10)
    with pytest.raises(ValueError, match="1 or more"):
        allocate_ranks([layer(1)], [1.0], [0], [1], 10)
    with pytest.raises(ValueError, match="1 or more"):
        allocate_ranks([layer(1)], [1.0], [1], [1], 10, 0)
