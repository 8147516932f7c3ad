"""Intervals of shares: every outcome enumerated for their coverage, scipy's values, and the ends of the range."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import binom, binomtest

from rcc.measurement.shares import paired_share_interval, quantile_interval, share_interval

ENOUGH, LEAST = 0.93, 0.915
"""Coverage wanted of a nominal 0.95, and the least that Wilson's interval has where one wrong item is expected."""


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_share_has_scipys_wilson_interval(items: int, data: st.DataObject, level: float) -> None:
    right = data.draw(st.integers(0, items))
    found, expected = (
        share_interval(right / items, items, level),
        binomtest(right, items).proportion_ci(level, "wilson"),
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= right / items <= found.high <= 1


def test_a_share_of_a_part_of_an_item_lies_between_its_neighbours() -> None:
    lows = [share_interval(0.9, items).low for items in (30, 30.5, 31)]
    assert lows == sorted(lows)


@pytest.mark.parametrize("items", [10, 30, 100, 284])
def test_the_true_share_is_covered_wherever_one_wrong_item_is_expected(items: int) -> None:
    """All n + 1 outcomes at a thousand true shares with n (1 − p) ≥ 1."""
    intervals = [share_interval(right / items, items) for right in range(items + 1)]
    low, high = np.array([(each.low, each.high) for each in intervals]).T
    shares = 1 - np.linspace(1 / items, 0.5, 1000)
    held = (low[:, None] <= shares) & (shares <= high[:, None])
    covered = (binom.pmf(np.arange(items + 1)[:, None], items, shares) * held).sum(0)
    below = covered < ENOUGH
    if below.any():
        wrong = (1 - shares[below]) * items
        print(f"n = {items}: {covered.min():.4f} at n(1 - p) from {wrong.min():.2f} to {wrong.max():.2f}")
    assert covered.min() >= LEAST
    assert below.mean() < (0.12 if items == 10 else 0.04)  # of the shares enumerated
    assert covered.mean() == pytest.approx(0.95, abs=0.01)


def test_the_usual_error_covers_far_less_where_few_are_wrong() -> None:
    right, share = np.arange(285), 0.9965
    across = 1.96 * np.sqrt(right / 284 * (1 - right / 284) / 284)
    held = np.abs(right / 284 - share) <= across
    assert float(binom.pmf(right, 284, share)[held].sum()) == pytest.approx(0.63, abs=0.01)


def outcomes(items: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every number of items gained and lost."""
    gained, lost = (each.ravel() for each in np.meshgrid(np.arange(items + 1), np.arange(items + 1)))
    return gained[gained + lost <= items], lost[gained + lost <= items]


def chances(items: int, gain: float, loss: float) -> NDArray[np.float64]:
    """Of every outcome, where an item is gained and lost with these chances."""
    gained, lost = outcomes(items)
    same = items - gained - lost
    ways = gammaln(items + 1) - gammaln(gained + 1) - gammaln(lost + 1) - gammaln(same + 1)
    return np.exp(ways + xlogy(gained, gain) + xlogy(lost, loss) + xlogy(same, 1 - gain - loss))


def agresti_min(gained: NDArray[np.int64], lost: NDArray[np.int64], items: int) -> NDArray[np.float64]:
    """(2, outcomes) Agresti and Min (2005): half an item is added to each of the four counts."""
    total, up, down = items + 2, gained + 0.5, lost + 0.5
    across = 1.959964 * np.sqrt(up + down - (up - down) ** 2 / total) / total
    return (up - down) / total + np.array([-1, 1])[:, None] * across


@pytest.mark.parametrize("items", [20, 60])
def test_the_true_difference_is_covered_wherever_one_changed_item_is_expected(items: int) -> None:
    """All outcomes, from changes that are all losses, as compression's mostly are, to as many gains. Agresti and Min's
    simpler interval fails where they are losses, which is why it is not used."""
    gained, lost = outcomes(items)
    ours = np.array([(each.low, each.high) for each in map(paired_share_interval, gained, lost, [items] * len(lost))]).T
    least = {"score": 1.0, "Agresti-Min": 1.0}
    for changed in np.linspace(1, items / 2, 25):
        for part in (0.0, 0.05, 0.25, 0.5):
            gain, loss = changed * part / items, changed * (1 - part) / items
            likely = chances(items, gain, loss)
            for name, (low, high) in {"score": ours, "Agresti-Min": agresti_min(gained, lost, items)}.items():
                held = (low <= gain - loss + 1e-12) & (gain - loss - 1e-12 <= high)
                least[name] = min(least[name], float(likely[held].sum()))
    assert least["score"] >= ENOUGH
    assert least["Agresti-Min"] < 0.89


@given(st.integers(1, 200), st.data())
def test_a_difference_lies_in_its_interval_and_changes_sides_with_its_signs(items: int, data: st.DataObject) -> None:
    gained = data.draw(st.integers(0, items))
    lost = data.draw(st.integers(0, items - gained))
    found, other = paired_share_interval(gained, lost, items), paired_share_interval(lost, gained, items)
    assert -1 <= found.low <= (gained - lost) / items <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-other.high, -other.low), abs=1e-7)
    assert found.low < found.high


def test_nothing_changed_bounds_the_change_by_the_number_of_items() -> None:
    square = 1.959964**2
    found = paired_share_interval(0, 0, 360)
    assert (found.low, found.high) == pytest.approx((-square / (360 + square), square / (360 + square)), rel=1e-6)
    assert found.standard_error == pytest.approx(1.959964 / (360 + square), rel=1e-6)
    everything = paired_share_interval(0, 360, 360)
    assert (everything.low, everything.high) == pytest.approx((-1, -(360 - square) / (360 + square)), rel=1e-6)


def test_at_each_end_the_score_of_the_most_likely_chances_is_rejected_just_not() -> None:
    """With the likelihood maximised over a grid in place of its closed form."""
    found = paired_share_interval(1, 3, 44)
    for end in (found.low, found.high):
        losses = np.linspace(max(0.0, -end), (1 - end) / 2, 200_002)[1:-1]
        likely = np.log(losses + end) + 3 * np.log(losses) + 40 * np.log(1 - 2 * losses - end)
        loss = float(losses[np.argmax(likely)])
        score = (1 - 3 - 44 * end) / math.sqrt(44 * (2 * loss + end * (1 - end)))
        assert abs(score) == pytest.approx(1.959964, rel=1e-3)


@pytest.mark.parametrize(("count", "share"), [(5, 0.5), (9, 0.5), (40, 0.5), (101, 0.5), (200, 0.95)])
def test_the_true_quantile_is_covered(count: int, share: float) -> None:
    """The number of values below the quantile is binomial, whatever the values: every number enumerated."""
    found = quantile_interval(list(range(1, count + 1)), share)
    assert found is not None
    below = np.arange(count + 1)  # the quantile lies between the `below`-th value and the next
    held = (found.low <= below + 0.5) & (below + 0.5 <= found.high)
    assert float(binom.pmf(below, count, share)[held].sum()) >= ENOUGH


def test_a_quantile_beyond_which_too_few_values_lie_has_no_interval() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.5) is None
    assert quantile_interval([float(each) for each in range(50)], 0.95) is None
    assert quantile_interval([3.0] * 50, 0.5).low == 3.0


def test_values_worth_fewer_items_have_a_wider_interval() -> None:
    values = [float(each) for each in range(500)]
    alone, together = quantile_interval(values, 0.5), quantile_interval(values, 0.5, items=100)
    assert together.high - together.low > 2 * (alone.high - alone.low)
