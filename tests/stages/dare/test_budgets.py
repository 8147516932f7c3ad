"""Who gives up how much: exact totals, floors, OWL's formula in numpy, shares by sensitivity, and one pass for all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.layer_rows import context_for, data
from toys.layer_rows import rows as rows_of
from toys.models import SmallModel

from rcc.calibration.sensitivity import sensitivities
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.stages.base import StageContext
from rcc.stages.dare.budgets import EXPONENT
from rcc.stages.dare.compressor import DARECompressor

UNITS = ("conv", "hidden", "head")


def zeros(unit: Unit) -> int:
    return unit.read().stored - unit.read().nonzeros


def counts(options: dict[str, Any], model: SmallModel | None = None) -> dict[str, int]:
    model = model or SmallModel()
    dense = SmallModel()
    DARECompressor(**options).apply(model, context_for(dense))
    return {unit.name: zeros(unit) for unit in model.units()}


def with_outliers() -> SmallModel:
    model = SmallModel()
    with torch.no_grad():
        for power, name in ((5, "conv"), (3, "hidden")):
            weight = model.unit(name).module.weight
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(power)) ** power)
    return model


def scores(name: str, model: SmallModel | None = None) -> np.ndarray:
    """|w| √E[x²] of a layer of the dense model, from the very rows that it is given."""
    model = model or SmallModel()
    given, _ = rows_of(model, name, data())
    weight = model.unit(name).read().dense().detach().double().numpy()
    return np.abs(weight) * np.sqrt((given.astype(np.float64) ** 2).mean(0))


def owl(target: float, multiple: float = 5.0, spread: float = 0.08) -> dict[str, float]:
    """Yin et al. (2023): outliers above `multiple` means, mapped onto ± `spread`, shifted to the mean wanted."""
    metric = {name: scores(name, with_outliers()) for name in UNITS}
    outliers = np.array([(metric[name] > multiple * metric[name].mean()).mean() for name in UNITS])
    sizes = np.array([metric[name].size for name in UNITS])
    spreads = (outliers - outliers.min()) / (outliers.max() - outliers.min()) * 2 * spread
    kept = spreads - np.average(spreads, weights=sizes) + (1 - target)
    return dict(zip(UNITS, 1 - kept, strict=True))


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_owl_shares_are_those_of_the_paper(target: float) -> None:
    found, wanted = counts({"target_sparsity": target, "allocation": "owl"}, with_outliers()), owl(target)
    for name in UNITS:
        assert found[name] == pytest.approx(wanted[name] * scores(name).size, abs=1)
    assert len({round(wanted[name], 2) for name in UNITS}) == 3


@pytest.mark.parametrize("solver", ["none", "admm"])
@pytest.mark.parametrize("allocation", ["importance", "owl", "sensitivity"])
@pytest.mark.parametrize("target", [0.0, 0.37, 0.9, 0.99])
def test_the_total_is_exact_and_no_layer_loses_more_than_the_floor_allows(
    allocation: str, target: float, solver: str
) -> None:
    found = counts({"target_sparsity": target, "allocation": allocation, "solver": solver})
    sizes = {name: SmallModel().unit(name).numel for name in UNITS}
    total = sum(sizes.values())
    by_layer = sum(round(target * size) for size in sizes.values())
    assert sum(found[name] for name in UNITS) == (by_layer if allocation == "sensitivity" else round(target * total))
    assert all(found[name] <= math.ceil(0.99 * sizes[name]) for name in UNITS)


def test_a_value_goes_by_its_share_of_the_error_and_what_that_does_to_the_outputs() -> None:
    model = SmallModel()
    found = sensitivities(model, model.units(), data(), StageContext().generator())
    cost, owner = [], []
    for name in UNITS:
        one = found[name]
        cost.append((scores(name) ** 2 / one.energy * one.weight**EXPONENT).ravel())
        owner += [name] * cost[-1].size
    total = sum(round(0.6 * part.size) for part in cost)
    least = np.array(owner)[np.argsort(np.concatenate(cost))[:total]]
    wanted = {name: int((least == name).sum()) for name in UNITS}
    given = counts({"target_sparsity": 0.6, "allocation": "sensitivity"})
    assert {name: given[name] for name in UNITS} == pytest.approx(wanted, abs=1)


def test_a_layer_that_the_outputs_feel_more_keeps_more() -> None:
    shares = {}
    for size in (1.0, 1000.0):
        model = SmallModel()
        with torch.no_grad():
            # Behind the norm, what the rest of the head puts out drowns what comes through these inputs.
            model.module.head.weight[:, 8:] *= size
        dense = SmallModel()
        dense.module.load_state_dict(model.module.state_dict())
        DARECompressor(0.6, allocation="sensitivity").apply(model, context_for(dense))
        shares[size] = {name: zeros(model.unit(name)) for name in UNITS}
    assert shares[1.0] != shares[1000.0]


@pytest.mark.parametrize("allocation", ["owl", "sensitivity"])
def test_norms_and_embeddings_keep_the_share_of_the_target(allocation: str) -> None:
    model = SmallModel()
    model.default_roles = ("linear", "conv", "norm")
    found = counts({"target_sparsity": 0.5, "allocation": allocation}, model)
    assert found["norm"] == 6
    assert sum(found[name] for name in UNITS) == sum(SmallModel().unit(name).numel for name in UNITS) // 2


def test_outputs_that_nothing_moves_fall_back_to_the_same_share() -> None:
    class Constant(SmallModel):
        def outputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"features": super().outputs(batch)["features"] * 0 + 1}

    model = Constant()
    DARECompressor(0.5, allocation="sensitivity").apply(model, context_for(Constant()))
    assert {name: zeros(model.unit(name)) for name in UNITS} == {"conv": 162, "hidden": 96, "head": 80}


@pytest.mark.parametrize("score", ["magnitude", "wanda", "taylor", "fisher", "random"])
def test_no_layer_dies_of_a_budget_for_all(score: str) -> None:
    model = SmallModel()
    with torch.no_grad():
        model.module.hidden.weight.mul_(1e-12)
    found = counts({"target_sparsity": 0.6, "scope": "global", "score": score, "floor": 0.05}, model)
    assert sum(found[name] for name in UNITS) == round(0.6 * (324 + 192 + 160))
    assert all(found[name] <= math.ceil(0.95 * model.unit(name).numel) for name in UNITS)
    if score in ("magnitude", "wanda"):
        assert found["hidden"] == math.ceil(0.95 * 192)


def test_a_norm_smaller_than_one_over_the_floor_keeps_a_value_all_the_same() -> None:
    model = SmallModel()
    model.default_roles = ("linear", "conv", "norm")
    with torch.no_grad():
        model.module.norm.weight.mul_(1e-6)
    assert counts({"target_sparsity": 0.6, "scope": "global"}, model)["norm"] == 11


def test_a_floor_that_leaves_too_little_is_refused_with_what_there_is() -> None:
    model = SmallModel()
    model.module.second = torch.nn.LayerNorm(12)
    with pytest.raises(UserError, match=r"cannot remove 24 values from pools that can give 22, each keeping a share"):
        DARECompressor(0.99, scope="global", roles=["norm"]).apply(model, context_for(SmallModel()))
    with pytest.raises(UserError, match=r"floor=0\.2 keeps more of every layer"):
        DARECompressor(0.9, scope="tower", floor=0.2)


@given(target=st.floats(0, 0.95), seed=st.integers(0, 100), score=st.sampled_from(["magnitude", "wanda", "fisher"]))
@settings(deadline=None, max_examples=20)
def test_a_budget_for_all_takes_the_least_scores_whatever_layer_they_are_in(
    target: float, seed: int, score: str
) -> None:
    model, dense = SmallModel(seed), SmallModel(seed)
    stage = DARECompressor(target, scope="global", score=score, floor=0.0, solver="none")
    stage.prepare(model, context_for(dense))
    stage._state.calibrate(model, score, score == "wanda")
    with torch.no_grad():
        costs = torch.cat([stage._state.scores([model.unit(name)], score)[0].abs().flatten() for name in UNITS])
    stage.apply_pruning_step()
    gone = torch.cat([(model.unit(name).read().sparse == 0).flatten() for name in UNITS])
    assert int(gone.sum()) == round(target * len(gone))
    if 0 < int(gone.sum()) < len(gone):
        assert float(costs[gone].max()) <= float(costs[~gone].min())


def test_scaled_rows_count_with_their_scale() -> None:
    """A scale that multiplies the rows is part of what a value does to the output, wherever the value is."""
    gone = []
    for folded in (False, True):
        model = SmallModel()
        form = model.unit("hidden").read()
        u, s, v = torch.linalg.svd(form.dense().detach(), full_matrices=False)
        scale = torch.linspace(0.1, 3, 16)
        scaled = Form(0.2 * form.dense().detach(), (u * s)[:, :4], v[:4], scale, form.bias)
        model.unit("hidden").write(scaled.folded() if folded else scaled)
        DARECompressor(0.5, score="wanda", scope="layer", include=["hidden"]).apply(model, context_for(SmallModel()))
        gone.append([(matrix == 0) for _, matrix in model.unit("hidden").read().matrices()])
    assert all(torch.equal(one, other) for one, other in zip(*gone, strict=True))
