"""Ranks by share, energy or a common budget: exact counts, and never more values than there are to spend."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.stages.nullu.rank_budget import RankRule, Spectrum, allocated


@given(m=st.integers(1, 60), n=st.integers(1, 60), share=st.floats(0.01, 1), sparse=st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=150)
def test_a_form_never_holds_more_than_its_share_but_for_a_rank_of_one(m, n, share, sparse) -> None:
    for of, nonzeros in (("weight", 0), ("residual", m * n // 5), ("joint", 0)):
        rule = RankRule(share, None, of, sparse)
        most, kept = rule.most((m, n), nonzeros), rule.kept_beside((m, n), nonzeros)
        stored = kept + most * (m + n)
        assert stored <= share * m * n * (1 + 1e-9) or most == (0 if of == "residual" else 1)
        assert stored + m + n > share * m * n * (1 - 1e-9)


@pytest.mark.parametrize(
    ("allocated_rank", "energy", "expected"),
    [(3, None, (3, "allocation")), (3, 0.5, (1, "energy")), (1, 0.5, (1, "energy")), (1, 0.9, (1, "allocation"))],
)
def test_the_smaller_of_allocation_and_energy_binds(allocated_rank, energy, expected) -> None:
    values = torch.tensor([6.0, 3.0, 2.0, 1.0]).sqrt()
    found = RankRule(0.5, energy, "weight", 0.5).rank(values, (4, 5), 0, allocated_rank)
    assert (found.rank, found.bound) == expected
    assert found.energy == pytest.approx([0, 6 / 12, 9 / 12, 11 / 12][found.rank])


def spectra(seed: int, of: str) -> list[Spectrum]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for place, (m, n) in enumerate([(8, 12), (20, 6), (9, 9), (15, 30)]):
        decay = torch.linspace(0, -float(place + 1), min(m, n)).double().exp()
        values = (decay * torch.rand(min(m, n), generator=generator).double()).sort(descending=True).values
        kept = m * n // 10 if of == "residual" else 0
        found.append(Spectrum(str(place), f"tower{place % 2}", (m, n), kept, values, float(values.square().sum())))
    return found


@given(seed=st.integers(0, 200), share=st.floats(0.4, 0.95), of=st.sampled_from(["weight", "residual", "joint"]))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("scope", ["global", "tower"])
def test_the_budget_of_each_pool_is_never_exceeded(scope, seed, share, of) -> None:
    rule, layers = RankRule(share, None, of, 0.2), spectra(seed, of)
    ranks = allocated(layers, rule, scope)
    for tower in {"tower0", "tower1"} if scope == "tower" else {None}:
        pool = [one for one in layers if tower in (None, one.tower)]
        taken = 0
        for one in pool:
            cost = ranks[one.name] * sum(one.shape)
            whole = math.prod(one.shape) if of == "weight" else cost
            taken += min(cost, whole) + rule.kept_beside(one.shape, one.nonzeros)
        assert taken <= share * sum(math.prod(one.shape) for one in pool) + len(pool)  # S's counts are rounded down


def test_energy_that_is_not_wanted_draws_no_budget() -> None:
    layers = spectra(3, "weight")
    without = allocated(layers, RankRule(0.5, None, "weight", 0.5), "global")
    with_energy = allocated(layers, RankRule(0.5, 0.7, "weight", 0.5), "global")
    wanted = {one.name: int((one.values.square().cumsum(0) / one.energy < 0.7 - 1e-12).sum()) + 1 for one in layers}
    assert any(with_energy[name] < without[name] for name in without)
    assert all(with_energy[name] >= min(wanted[name], without[name]) for name in without)
