"""score=taylor|fisher through the stage: the formulas written out, factors compared, and gradients let go."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from toys.layer_rows import context_for, data
from toys.models import SmallModel
from toys.solved_layers import UNITS, factorise, pruned

from rcc.stages.dare.compressor import DARECompressor


def gradients(model: SmallModel, name: str, calibration: list[dict[str, torch.Tensor]], attribute: str = "weight"):
    model.module.eval()
    parameter = getattr(model.unit(name).module, attribute)
    return torch.stack([torch.autograd.grad(model.loss(batch), parameter)[0].flatten(1) for batch in calibration])


@pytest.mark.parametrize("score", ["taylor", "fisher"])
@pytest.mark.parametrize("name", UNITS)
def test_gradient_scores_remove_what_their_formula_says(score: str, name: str) -> None:
    model, dense = SmallModel(), SmallModel()
    weight = dense.unit(name).read().dense().detach().double().numpy()
    found = gradients(dense, name, data()).double().numpy()
    cost = np.abs(weight * found.mean(0)) if score == "taylor" else weight**2 * (found**2).mean(0) / 2
    pruned({"target_sparsity": 0.6, "score": score, "include": [name]}, model)
    gone = (model.unit(name).read().dense() == 0).numpy()
    count = round(0.6 * weight.size)
    assert gone.sum() == count
    assert set(np.flatnonzero(gone)) == set(np.argsort(cost, axis=None)[:count])


def test_gradient_scores_compare_the_two_factors_of_a_layer() -> None:
    model = SmallModel()
    factorise(model.unit("hidden"), 4)
    twin = copy.deepcopy(model)
    costs = []
    for name in ("left", "right"):
        matrix = getattr(twin.unit("hidden").read(), name).detach()
        costs.append((matrix * gradients(twin, "hidden", data(), name).mean(0)).abs().flatten())
    pruned({"target_sparsity": 0.5, "score": "taylor", "include": ["hidden"]}, model)
    gone = torch.cat([(matrix == 0).flatten() for _, matrix in model.unit("hidden").read().matrices()])
    expected = torch.cat(costs).argsort()[: round(0.5 * len(gone))]
    assert set(gone.nonzero().view(-1).tolist()) == set(expected.tolist())


@pytest.mark.parametrize("score", ["taylor", "fisher"])
def test_where_the_loss_feels_nothing_magnitude_decides(score: str) -> None:
    model = SmallModel()
    model.module.idle = nn.Linear(9, 5)
    dense = copy.deepcopy(model)
    DARECompressor(0.4, score=score, include=["idle"]).apply(model, context_for(dense))
    weight = dense.module.idle.weight.detach().abs()
    gone = model.module.idle.weight == 0
    assert int(gone.sum()) == 18
    assert float(weight[gone].max()) < float(weight[~gone].min())


def test_gradients_are_let_go_after_each_step() -> None:
    stage, model = DARECompressor(0.4, 2, score="fisher"), SmallModel()
    stage.prepare(model, context_for(SmallModel()))
    for _ in range(2):
        stage.apply_pruning_step()
        assert stage._state._gradients == {}
