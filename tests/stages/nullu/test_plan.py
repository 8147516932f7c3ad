"""What a dry run says of truncation: ranks by share beside whatever stays, and the bytes of all that is stored."""

import pytest

from rcc.layers.encoding import encoded_bytes
from rcc.stages.base import UnitPlan
from rcc.stages.nullu.plan import plan_truncation
from rcc.stages.nullu.rank_budget import RankRule


def unit(**matrices: tuple[int, int]) -> UnitPlan:
    return UnitPlan("layer", "linear", "model", "linear", (100, 100), True, matrices)


def test_a_residual_pair_has_what_the_kept_part_leaves() -> None:
    plan = plan_truncation(unit(sparse=(10_000, 2_000)), RankRule(0.5, None, "residual", 0.5), 2, "uniform")
    assert plan.matrices == {"sparse": (10_000, 2_000), "left": (1_500, 1_500), "right": (1_500, 1_500)}
    assert plan.note == "rank 15 of 100"
    full = plan_truncation(unit(sparse=(10_000, 5_000)), RankRule(0.5, None, "residual", 0.5), 2, "uniform")
    assert full.note == "left as it is: S holds 5,000 values, and 0.5 of 10,000 leaves no rank beside them"


def test_a_residual_of_a_pair_alone_is_a_pair_alone() -> None:
    pair = {"left": (3_000, 3_000), "right": (3_000, 3_000)}
    plan = plan_truncation(unit(**pair), RankRule(0.5, None, "residual", 0.5), 2, "uniform")
    assert plan.matrices == {"left": (2_500, 2_500), "right": (2_500, 2_500)}


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_a_joint_form_divides_the_share(share: float) -> None:
    plan = plan_truncation(unit(sparse=(10_000, 10_000)), RankRule(0.2, None, "joint", share), 2, "uniform")
    rank = int((2_000 - 2_000 * share) // 200)
    assert plan.matrices == {
        "sparse": (10_000, 2_000 * share),
        "left": (100 * rank, 100 * rank),
        "right": (100 * rank, 100 * rank),
    }
    assert plan.nbytes(2) == encoded_bytes(10_000, int(2_000 * share), 2) + 400 * rank


def test_energy_makes_a_rank_an_upper_bound_and_spectra_an_average() -> None:
    dense = unit(sparse=(10_000, 10_000))
    notes = [
        plan_truncation(dense, RankRule(0.2, energy, "weight", 0.5), 2, allocation).note
        for energy, allocation in ((None, "uniform"), (0.9, "uniform"), (None, "spectra"))
    ]
    assert notes == ["rank 10 of 100", "rank at most 10 of 100", "by the spectra, on average rank 10 of 100"]
