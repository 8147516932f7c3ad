"""The strength of one stage at which planned bytes are those due: on counts that are known by hand."""

from __future__ import annotations

import pytest
from toys.models import CHAIN_VALUES as VALUES
from toys.models import chain, chain_with_norm
from toys.stages import Cut, Erase, Factor

from rcc.cascade.bytes.balance import Balance, balancing, due_bytes, due_of_stage, no_strength, solved_for
from rcc.errors import UserError
from rcc.layers.encoding import encoded_bytes
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.nullu.projector import NulluProjector


def balance_of(model: Adapter, stage: Stage) -> Balance:
    return Balance.of(model, [stage], stage, [stage], 2)


def test_the_last_stage_with_a_strength_balances() -> None:
    stages = [Cut(label="a"), Erase(label="b"), Factor(label="c")]
    assert balancing(stages) is stages[1]
    assert balancing([Factor()]) is None
    assert balancing([DARECompressor(0.5, solver="admm", pattern="2:4"), NulluProjector(None)]) is None


def test_all_stages_with_a_strength_are_solved_for_or_the_last_alone() -> None:
    stages = [Cut(label="a"), Factor(label="b"), Erase(label="c")]
    assert solved_for(stages, "measured") == [stages[0], stages[2]]
    assert solved_for(stages, "last") == [stages[2]]


def test_stages_come_down_by_their_shares_and_the_last_to_what_is_due() -> None:
    shares = {"a": 0.5, "b": 0.25, "c": 0.25}
    after_a = due_of_stage(1600.0, 100.0, shares, "a")
    assert after_a == pytest.approx(400)
    assert due_of_stage(after_a, 100.0, shares, "b") == pytest.approx(200)
    assert due_of_stage(200.0, 100.0, shares, "c") == 100.0
    assert due_of_stage(80.0, 100.0, shares, "b") == 80.0


def test_a_geometric_curve_shrinks_by_the_same_factor_in_every_round() -> None:
    now = 1600.0
    for number, wanted in ((1, 800), (2, 400), (3, 200), (4, 100)):
        now = due_bytes("geometric", number, 4, now, 100.0)
        assert now == pytest.approx(wanted)
    assert now == 100.0


def test_a_curve_of_shares_gives_the_exponents_and_a_round_that_fell_short_is_made_up_for() -> None:
    assert due_bytes("polynomial", 1, 2, 1600.0, 100.0) == pytest.approx(1600 * (1 / 16) ** 0.875)
    assert due_bytes("geometric", 3, 4, 900.0, 100.0) == pytest.approx(300)
    assert due_bytes("geometric", 1, 2, 50.0, 100.0) == 50.0


def test_the_strength_is_the_one_at_which_the_counts_take_what_is_due() -> None:
    balance = balance_of(chain(), Cut(label="cut"))
    assert balance.nbytes() == 2 * VALUES
    solved = balance.solve(6000.0)
    by_hand = sum(encoded_bytes(count, count - round(solved.strength * count), 2) for count in (3072, 3072, 1536))
    assert solved.met
    assert solved.planned == by_hand
    assert abs(by_hand - 6000) <= 2
    assert balance.solve(2.0 * VALUES).strength == 0


def test_where_no_strength_meets_what_is_due_the_one_with_the_fewest_bytes_is_taken() -> None:
    class Rank(Cut):
        """Takes nothing off beyond 0.8, as a rank too small to pay does, and refuses less than 0.1."""

        def at(self, strength):
            if strength < 0.1:
                raise UserError("too weak")
            return super().at(strength)

        def _left(self, numel, nonzeros):
            return (numel, nonzeros) if self.share > 0.8 else super()._left(numel, nonzeros)

    balance = balance_of(chain(), Rank(label="rank"))
    solved = balance.solve(1.0)
    assert not solved.met
    assert 0.78 < solved.strength <= 0.8
    assert balance.solve(2.0 * VALUES).strength >= 0.1
    assert balance.solve(balance.nbytes(0.6)).strength == pytest.approx(0.6, abs=1e-3)


def test_norms_are_no_part_of_what_a_strength_can_change() -> None:
    assert balance_of(chain_with_norm(), Cut(label="cut")).nbytes() == 2 * VALUES


def test_a_stage_that_comes_later_and_has_no_strength_of_its_own_counts_with_the_one_that_balances() -> None:
    """Half the values go in a later stage whose strength is its own: what is left of the others is planned after it."""
    cut, later = Cut(label="cut"), Cut(0.5, "later")
    assert Balance.of(chain(), [cut, later], cut, [cut, later], 2).nbytes(0.0) == 2 * VALUES
    halved = sum(encoded_bytes(count, count - round(0.5 * count), 2) for count in (3072, 3072, 1536))
    assert Balance.of(chain(), [cut, later], cut, [cut], 2).nbytes(0.0) == halved


def test_a_cascade_without_a_strength_is_told_which_options_took_it() -> None:
    assert "in a+factor there is neither (dare has none with pattern=" in no_strength([Factor(label="a"), Factor()])
