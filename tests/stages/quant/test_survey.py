"""The survey: which matrices have curves, whose damage is whose, and what feedback leaves of a column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.quant.allocation import row_sizes
from rcc.stages.quant.survey import MOST_UNEVEN, ROWS, TOKENS, left_over, sizes_by_cost, survey


class Net(nn.Module):
    """Tokens through a table and a layer, to which another adds a hundredth; `idle` never runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(11, 8)
        self.loud = nn.Linear(8, 6)
        self.quiet = nn.Linear(8, 6)
        self.idle = nn.Linear(8, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.table(tokens).mean(1)
        return self.loud(hidden) + 0.01 * self.quiet(hidden)


NAMES = {name: ["sparse"] for name in ("table", "loud", "quiet", "idle")}


@pytest.fixture
def model() -> ModuleAdapter:
    return ModuleAdapter(Net().eval())


@pytest.fixture
def context() -> StageContext:
    generator = torch.Generator().manual_seed(1)
    tokens = [{"tokens": torch.randint(9, (16, 5), generator=generator)} for _ in range(4)]
    return StageContext(calibration=tokens, storage=torch.float16)


@pytest.mark.parametrize("feedback", [True, False])
def test_what_is_called_has_a_curve_and_what_moves_the_outputs_less_is_damaged_less(model, context, feedback):
    curves = survey(model, context, NAMES, feedback).curves
    assert set(curves) == {("table", "sparse"), ("loud", "sparse"), ("quiet", "sparse")}
    loud, quiet = (curves[name, "sparse"].damage[8] for name in ("loud", "quiet"))
    assert 1e-6 * loud < quiet < 1e-3 * loud  # about a hundredth squared


def test_feedback_makes_up_for_some_of_the_damage(model, context):
    with_it, without = (survey(model, context, NAMES, feedback).curves["loud", "sparse"] for feedback in (True, False))
    assert bool((with_it.damage < without.damage)[4:10].all())
    np.testing.assert_allclose(with_it.bits[:4], without.bits[:4], rtol=0.1)


def test_both_matrices_of_a_pair_have_curves(model, context):
    unit = next(unit for unit in model.units() if unit.name == "loud")
    u, s, v = torch.linalg.svd(unit.read().dense().detach(), full_matrices=False)
    unit.write(replace(Form(left=u * s, right=v), bias=unit.read().bias))
    curves = survey(model, context, {"loud": ["left", "right"]}, feedback=True).curves
    assert set(curves) == {("loud", "left"), ("loud", "right")}
    assert all(curve.damage[6] > 0 for curve in curves.values())


def test_what_is_left_over_of_a_column_is_its_variance_given_those_after_it():
    generator = torch.Generator().manual_seed(2)
    factor = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    moment = factor @ factor.T + torch.eye(6).double()
    found = left_over(moment)
    order = moment.diagonal().argsort(descending=True).tolist()
    for place, column in enumerate(order):
        later = order[place:]
        inverse = torch.linalg.inv(moment[later][:, later])
        assert float(found[column]) == pytest.approx(1 / float(inverse[0, 0]))


def test_steps_are_finer_where_errors_cost_more_within_limits():
    matrix = torch.ones(4, 3)
    tokens, rows = (sizes_by_cost(matrix, torch.tensor([1.0, 4.0, 2.0, 2.0]), power) for power in (TOKENS, ROWS))
    assert float(tokens[0] / tokens[1]) == pytest.approx(2.0)
    assert float(rows[0] / rows[1]) == pytest.approx(2.0**ROWS)
    limited = sizes_by_cost(matrix, torch.tensor([0.0, 1.0, 1.0, 1e6]), TOKENS)
    assert float(limited.max()) == MOST_UNEVEN
    assert float(limited.min()) == pytest.approx(1 / MOST_UNEVEN)
    assert torch.equal(sizes_by_cost(matrix, torch.zeros(4), ROWS), row_sizes(matrix))
