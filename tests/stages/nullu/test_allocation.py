"""allocation=spectra: one budget of parameters for many layers, spent where it lowers relative output errors most."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest
import torch
from toys.layer_rows import context_for, data, rows, svd_llm, weight_of
from toys.models import SmallModel

import rcc.stages.nullu.truncation as under_test
from rcc.errors import UserError
from rcc.stages.base import StageContext, UnitPlan
from rcc.stages.nullu.projector import NulluProjector

UNITS = {"conv": (12, 27), "hidden": (16, 12), "head": (10, 16)}
PARAMETERS = sum(m * n for m, n in UNITS.values())


@pytest.fixture
def context() -> StageContext:
    return context_for(SmallModel())


def relative_errors(calibration: list[dict[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """E‖y − V x − b‖² / E‖y‖² of each rank 0 … full, the staying near counted in, from the rows."""
    found, model = {}, SmallModel()
    for name in UNITS:
        x, y = rows(model, name, calibration)
        bias = model.unit(name).read().bias is not None
        near = weight_of(model, name)
        _, _, s = svd_llm(x, y, near, 1, bias)
        if bias:
            x, y = x - x.mean(0), y - y.mean(0)
        energy = (y**2).sum(1).mean() + 1e-3 * (x**2).mean() * (near**2).sum()
        found[name] = np.maximum(0, 1 - np.concatenate([[0], (s**2).cumsum()]) / energy)
    return found


def cost(name: str, rank: int) -> int:
    m, n = UNITS[name]
    return min(rank * (m + n), m * n)


def ranks_of(model: SmallModel) -> dict[str, int]:
    return {name: model.unit(name).read().rank or min(shape) for name, shape in UNITS.items()}


@pytest.mark.parametrize("ratio", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_the_sum_of_relative_errors_is_the_least_of_all_choices_of_ranks(ratio, context) -> None:
    model = SmallModel()
    errors = relative_errors(context.calibration)
    NulluProjector(ratio, None, metric="calibration", allocation="spectra").apply(model, context)
    ranks = ranks_of(model)
    budget = int((1 - ratio) * PARAMETERS)
    taken = sum(cost(name, rank) for name, rank in ranks.items())
    assert taken <= budget
    choices = [
        choice
        for choice in itertools.product(*(range(1, min(shape) + 1) for shape in UNITS.values()))
        if sum(cost(name, rank) for name, rank in zip(UNITS, choice, strict=True)) <= taken
    ]

    def total(choice: tuple[int, ...]) -> float:
        return float(sum(errors[name][rank] for name, rank in zip(UNITS, choice, strict=True)))

    assert total(tuple(ranks.values())) == pytest.approx(min(map(total, choices)), abs=1e-6)


def test_it_is_better_than_the_same_share_for_each_layer(context) -> None:
    errors = relative_errors(context.calibration)
    totals = {}
    for allocation in ("uniform", "spectra"):
        model = SmallModel()
        NulluProjector(0.6, None, metric="calibration", allocation=allocation).apply(model, context)
        totals[allocation] = sum(errors[name][rank] for name, rank in ranks_of(model).items())
    assert totals["spectra"] < 0.9 * totals["uniform"]


def test_pairs_are_fitted_to_what_layers_see_after_the_others_were_cut(context) -> None:
    model, dense = SmallModel(), SmallModel()
    report = NulluProjector(0.6, None, metric="calibration", allocation="spectra").apply(model, context)
    rank = report.touched["head"]["rank"]
    x, _ = rows(model, "head", context.calibration)
    _, y = rows(dense, "head", context.calibration)
    expected, _, _ = svd_llm(x, y, weight_of(dense, "head"), rank, bias=False)
    np.testing.assert_allclose(weight_of(model, "head"), expected, rtol=0, atol=1e-4)
    assert {facts["bound"] for facts in report.touched.values()} == {"allocation"}
    assert report.facts["bound_by_allocation"] == report.facts["factorised"] == len(report.touched)


def test_a_budget_for_each_tower_is_kept_by_each(context) -> None:
    model, uniform = SmallModel(), SmallModel()  # every layer of it is a tower
    options = {"metric": "calibration", "include": ["conv", "hidden", "head"]}
    NulluProjector(0.6, None, allocation="spectra", scope="tower", **options).apply(model, context)
    NulluProjector(0.6, None, **options).apply(uniform, context)
    assert ranks_of(model) == ranks_of(uniform)
    assert all(torch.equal(one, uniform.module.state_dict()[name]) for name, one in model.module.state_dict().items())


def test_what_is_best_left_dense_is_left_with_that_reason(context) -> None:
    model = SmallModel()
    report = NulluProjector(0.05, None, metric="calibration", allocation="spectra").apply(model, context)
    dense = [entry.name for entry in report.skipped if entry.reason == "by the spectra it is best left as it is"]
    assert dense
    assert set(dense) | set(report.touched) == set(UNITS)


def test_energy_caps_a_rank_and_what_it_leaves_goes_to_others(context) -> None:
    alone, capped = SmallModel(), SmallModel()
    NulluProjector(0.5, None, metric="calibration", allocation="spectra").apply(alone, context)
    report = NulluProjector(0.5, 0.9, metric="calibration", allocation="spectra").apply(capped, context)
    bound = {name: facts["bound"] for name, facts in report.touched.items()}
    less = [name for name in UNITS if ranks_of(capped)[name] < ranks_of(alone)[name]]
    more = [name for name in UNITS if ranks_of(capped)[name] > ranks_of(alone)[name]]
    assert less
    assert more
    assert {bound[name] for name in less} == {"energy"}
    assert sum(cost(name, rank) for name, rank in ranks_of(capped).items()) <= int(0.5 * PARAMETERS)


def test_plain_spectra_are_shared_by_relative_errors_of_the_weights() -> None:
    model = SmallModel()
    NulluProjector(0.6, None, allocation="spectra").apply(model, StageContext())
    tails = {}
    for name in UNITS:
        s = np.linalg.svd(weight_of(SmallModel(), name), compute_uv=False) ** 2
        tails[name] = np.concatenate([s[::-1].cumsum()[::-1], [0]]) / s.sum()
    ranks = ranks_of(model)
    taken = sum(cost(name, rank) for name, rank in ranks.items())
    best = min(
        sum(tails[name][rank] for name, rank in zip(UNITS, choice, strict=True))
        for choice in itertools.product(*(range(1, min(shape) + 1) for shape in UNITS.values()))
        if sum(cost(name, rank) for name, rank in zip(UNITS, choice, strict=True)) <= taken
    )
    assert sum(tails[name][rank] for name, rank in ranks.items()) == pytest.approx(best, abs=1e-6)


def test_a_later_round_cuts_further_and_never_offers_a_pair_more_rank_than_it_has(context) -> None:
    model = SmallModel()
    options = {"metric": "calibration", "allocation": "spectra"}
    NulluProjector(0.5, None, **options).apply(model, context)
    first = ranks_of(model)
    NulluProjector(0.7, None, **options).apply(model, context)
    second = ranks_of(model)
    assert all(second[name] <= first[name] for name in UNITS)
    assert sum(cost(name, rank) for name, rank in second.items()) <= int(0.3 * PARAMETERS)


def test_a_budget_below_a_rank_of_one_everywhere_is_refused_with_what_it_takes(context) -> None:
    least = sum(m + n for m, n in UNITS.values())
    stage = NulluProjector(0.95, None, metric="calibration", allocation="spectra")
    before = SmallModel().module.state_dict()
    model = SmallModel()
    with pytest.raises(UserError, match=rf"a budget of {int(0.05 * PARAMETERS)} is below the {least} .*lower ratio"):
        stage.apply(model, context)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


@pytest.mark.parametrize("allocation", ["uniform", "spectra"])
def test_the_moments_of_two_layers_at_most_are_in_memory(allocation, monkeypatch) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    fit = under_test.to_outputs

    def watched(site, *rest):
        assert sum(one() is not None for one in alive) <= 1
        found = fit(site, *rest)
        alive.append(weakref.ref(site.cross))
        return found

    monkeypatch.setattr(under_test, "to_outputs", watched)
    NulluProjector(0.5, None, metric="calibration", allocation=allocation).apply(
        SmallModel(), StageContext(calibration=data())
    )
    assert len(alive) == (6 if allocation == "spectra" else 3)


def test_the_plan_says_that_ranks_are_averages() -> None:
    plans = [UnitPlan.of(unit) for unit in SmallModel().units()]
    notes = {plan.name: plan.note for plan in NulluProjector(0.5, None, allocation="spectra").plan(plans, 4)}
    assert notes["hidden"] == "by the spectra, on average rank 3 of 12"
