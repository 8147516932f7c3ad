"""Progress curves: published values, monotony, and the exact end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from rcc.ops.curves import CURVES, share


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("total", [1, 3, 7, 49])
def test_every_curve_rises_and_ends_at_exactly_one(curve: str, total: int) -> None:
    shares = [share(curve, index, total) for index in range(total)]
    assert shares[-1] == 1.0
    assert all(0 < earlier < later for earlier, later in pairwise(shares))


@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_itself_runs_from_zero_to_one(curve: str) -> None:
    assert CURVES[curve](0.0) == 0.0
    assert CURVES[curve](1.0) == pytest.approx(1.0, abs=1e-15)


def test_halfway_values_are_those_of_the_formulas() -> None:
    halfway = {curve: share(curve, 1, 4) for curve in CURVES}
    assert halfway == pytest.approx(
        {
            "linear": 0.5,
            "exponential": (1 - math.exp(-2.5)) / (1 - math.exp(-5)),
            "cosine": 0.5,
            "polynomial": 0.875,
            "cubic_late": 0.125,
        }
    )


def test_polynomial_is_the_cubic_of_zhu_and_gupta() -> None:
    final, initial, steps = 0.9, 0.0, 10
    for step in range(steps):
        published = final + (initial - final) * (1 - (step + 1) / steps) ** 3
        assert final * share("polynomial", step, steps) == pytest.approx(published)


def test_an_unknown_curve_and_a_step_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown curve 'cubic'; available: linear, exponential"):
        share("cubic", 0, 1)
    with pytest.raises(ValueError, match="step 3 is not one of the 3 steps 0 to 2"):
        share("linear", 3, 3)
