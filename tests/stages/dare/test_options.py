"""What a solver or a pattern cannot do is refused before a weight is touched, all of it at once."""

from __future__ import annotations

import pytest
from toys.models import SmallModel
from toys.solved_layers import bits, factorise, pruned

from rcc.errors import UserError
from rcc.stages.base import StageContext
from rcc.stages.dare.compressor import DARECompressor


def test_obs_refuses_layers_held_as_factors_by_name() -> None:
    model = SmallModel()
    factorise(model.unit("hidden"), 4)
    factorise(model.unit("head"), 4)
    before = bits(model)
    with pytest.raises(UserError, match=r"solver=obs prunes a whole weight.*: hidden, head\. Take solver=admm"):
        pruned({"solver": "obs"}, model)
    assert bits(model) == before


def test_widths_that_a_pattern_does_not_divide_are_all_named() -> None:
    model = SmallModel()
    factorise(model.unit("hidden"), 3)
    before = bits(model)
    with pytest.raises(UserError) as error:
        pruned({"target_sparsity": 0.5, "pattern": "4:8", "solver": "admm"}, model)
    assert "conv (12 x 27), hidden (16 x 3), hidden (3 x 12)" in str(error.value)
    assert "head" not in str(error.value)
    assert bits(model) == before


def test_a_solver_without_calibration_data_is_refused() -> None:
    with pytest.raises(UserError, match="solver=obs, allocation=owl needs calibration data"):
        DARECompressor(solver="obs", allocation="owl").apply(SmallModel(), StageContext())


def test_all_wrong_options_of_a_solver_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        DARECompressor(
            0.995, solver="adm", solver_iterations=0, floor=1.0, pattern="4:2", allocation="own", score="tailor"
        )
    text = str(error.value)
    assert all(name in text for name in ("adm", "solver_iterations is 0", "floor is 1.0", "4:2", "own", "tailor"))
    with pytest.raises(UserError) as error:
        DARECompressor(0.7, 3, scope="global", score="wanda", rescale="dare", solver="admm", allocation="owl",
                       pattern="2:4", floor=0.5)  # fmt: skip
    text = str(error.value)
    for part in ("floor=0.5 keeps more", "scope=layer or row (found global)", "leave score=magnitude",
                 "leave num_iterations=1", "set target_sparsity=0.5", "no budget to share"):  # fmt: skip
        assert part in text
    assert len(error.value.problems) == 6


@pytest.mark.parametrize("pattern", ["2", "2:4:8", "0:4", "4:4", "a:b"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match="it reads as '2:4'"):
        DARECompressor(0.5, pattern=pattern, solver="admm")
