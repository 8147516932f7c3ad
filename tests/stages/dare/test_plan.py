"""The dry run of pruning: exact pools, expected matrices, and what it says about bytes."""

from __future__ import annotations

from rcc.stages.base import UnitPlan
from rcc.stages.dare.plan import plan_pruning, pools_by_scope


def unit(name: str, tower: str, *, rank: int | None = None, zeros: int = 0) -> UnitPlan:
    matrices = (
        {"sparse": (1000, 1000 - zeros)}
        if rank is None
        else {"left": (40 * rank, 40 * rank), "right": (25 * rank, 25 * rank)}
    )
    return UnitPlan(name, "linear", tower, "linear", (40, 25), True, matrices)


UNITS = [unit("a", "vision"), unit("b", "text", rank=3), unit("c", "vision", zeros=600)]


def kept(plan: UnitPlan) -> int:
    return sum(nonzeros for _, nonzeros in plan.matrices.values())


def test_pools_follow_the_scope_in_the_units_order() -> None:
    names = {
        scope: [[u.name for u in pool] for pool in pools_by_scope(UNITS, scope)]
        for scope in ("layer", "tower", "global")
    }
    assert names == {
        "layer": [["a"], ["b"], ["c"]],
        "tower": [["a", "c"], ["b"]],
        "global": [["a", "b", "c"]],
    }


def test_per_layer_counts_are_exact_and_zeros_that_are_there_count() -> None:
    plans = plan_pruning(UNITS, 0.5, "layer", "uniform", 2)
    assert [kept(plan) for plan in plans] == [500, 195 - round(0.5 * 195), 400]
    assert plans[0].note == ""
    assert plans[1].note == "exact over the layer, expected for each matrix"


def test_a_pool_keeps_its_exact_total_and_says_that_shares_are_expected() -> None:
    plans = plan_pruning(UNITS, 0.9, "global", "uniform", 2)
    assert sum(kept(plan) for plan in plans) == 2195 - round(0.9 * 2195)
    assert all("expected share of the global's budget" in plan.note for plan in plans)


def test_a_layer_for_which_the_bitmask_does_not_pay_is_noted() -> None:
    (plan,) = plan_pruning(UNITS[:1], 0.05, "layer", "uniform", 2)
    assert kept(plan) == 950
    assert plan.nbytes(2) == 2000
    assert plan.note == "no bytes saved: under 6.2% zeros a bitmask costs more than it saves"


def test_a_layer_of_zeros_stays_one() -> None:
    (plan,) = plan_pruning([unit("z", "vision", zeros=1000)], 0.5, "layer", "uniform", 4)
    assert plan.matrices == {"sparse": (1000, 0)}
