"""solver=admm|obs and patterns through the stage: counts, order, errors and biases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys.layer_rows import context_for, data
from toys.models import SmallModel
from toys.solved_layers import (
    SOLVERS,
    UNITS,
    assert_fitted_to_its_own_inputs,
    bits,
    factorise,
    output_errors,
    pruned,
    zeros,
)

from rcc.stages.dare.compressor import DARECompressor

# ---- counts


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("target", [0.0, 0.5, 0.83])
def test_every_layer_gets_its_exact_count(solver: str, target: float) -> None:
    model, report = pruned({"target_sparsity": target, "solver": solver})
    for name in UNITS:
        assert zeros(model.unit(name)) == round(target * model.unit(name).numel)
        weight = model.unit(name).read().sparse
        assert not bool(torch.signbit(weight[weight == 0]).any())
        assert report.touched[name]["sparsity"] == pytest.approx(round(target * weight.numel()) / weight.numel())
    assert report.facts["solver"] == solver


@pytest.mark.parametrize("sparse", [0.0, 1.0])
def test_factors_and_what_is_beside_them_share_one_exact_count(sparse: float) -> None:
    model = SmallModel()
    factorise(model.unit("hidden"), 5, sparse)
    factorise(model.unit("conv"), 4, sparse)
    pruned({"target_sparsity": 0.6, "solver": "admm"}, model)
    for name in ("hidden", "conv"):
        form = model.unit(name).read()
        assert zeros(model.unit(name)) == round(0.6 * form.stored)
        assert (form.sparse is None) == (sparse == 0.0)


def test_scope_row_keeps_the_same_number_in_every_row() -> None:
    model, _ = pruned({"target_sparsity": 0.5, "solver": "admm", "scope": "row"})
    for name in UNITS:
        rows = (model.unit(name).read().sparse != 0).sum(1)
        assert int(rows.max() - rows.min()) <= 1


@pytest.mark.parametrize("scope", ["tower", "global"])
def test_a_budget_of_all_layers_is_exact_and_keeps_the_floor(scope: str) -> None:
    model = SmallModel()
    with torch.no_grad():
        model.unit("hidden").module.weight.mul_(1e-3)
    pruned({"target_sparsity": 0.7, "solver": "admm", "scope": scope, "floor": 0.1}, model)
    units = [model.unit(name) for name in UNITS]
    if scope == "global":
        assert sum(map(zeros, units)) == round(0.7 * sum(unit.numel for unit in units))
        assert zeros(units[1]) == np.ceil(0.9 * units[1].numel)
    assert all(zeros(unit) <= np.ceil(0.9 * unit.numel) for unit in units)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("pattern", [(2, 4), (1, 2), (1, 4)])
def test_patterns_hold_in_every_group_of_every_matrix(solver: str, pattern: tuple[int, int]) -> None:
    n, m = pattern
    model = SmallModel()
    options = {"target_sparsity": 1 - n / m, "pattern": f"{n}:{m}", "solver": solver, "exclude": ["conv"]}
    stage = DARECompressor(**options, roles=["linear", "norm"])
    stage.apply(model, context_for(SmallModel()))
    for name in ("hidden", "head", "norm"):
        matrix = model.unit(name).read().sparse
        assert bool(((matrix.reshape(-1, m) != 0).sum(1) == n).all())
    assert stage.strength is None


def test_a_pattern_of_factors_is_that_of_both() -> None:
    model = SmallModel()
    factorise(model.unit("hidden"), 4)
    pruned({"target_sparsity": 0.5, "pattern": "2:4", "solver": "admm", "include": ["hidden"]}, model)
    for _, matrix in model.unit("hidden").read().matrices():
        assert bool(((matrix.reshape(-1, 4) != 0).sum(1) == 2).all())


# ---- what it is for


@pytest.mark.parametrize("solver", SOLVERS)
def test_outputs_are_nearer_than_those_of_masks_in_every_layer(solver: str) -> None:
    solved, report = pruned({"target_sparsity": 0.7, "solver": solver})
    masked, _ = pruned({"target_sparsity": 0.7, "solver": "none"})
    with_solver, with_masks = output_errors(solved), output_errors(masked)
    for name in UNITS:
        assert with_solver[name] < with_masks[name]
        assert report.touched[name]["output_error"] == pytest.approx(with_solver[name], rel=1e-3)
    assert report.touched["conv"]["output_error_before"] < 1e-6
    assert report.touched["hidden"]["output_error_before"] > 1e-3


def test_factors_are_solved_for_better_than_masked() -> None:
    found = {}
    for options in ({"solver": "admm"}, {"score": "wanda", "scope": "layer"}):
        model = SmallModel()
        factorise(model.unit("hidden"), 8)
        pruned({"target_sparsity": 0.6, "include": ["hidden"], **options}, model)
        found["solver" in options] = output_errors(model)["hidden"]
    assert found[True] < 0.7 * found[False]


@pytest.mark.parametrize("solver", SOLVERS)
def test_later_layers_are_fitted_on_what_the_earlier_ones_have_become(solver: str) -> None:
    model, _ = pruned({"target_sparsity": 0.7, "solver": solver})
    for name in ("hidden", "head"):
        assert_fitted_to_its_own_inputs(model, SmallModel(), name)


@pytest.mark.parametrize("solver", SOLVERS)
def test_biases_are_settled_so_that_the_means_of_the_outputs_are_the_dense_ones(solver: str) -> None:
    model, _ = pruned({"target_sparsity": 0.8, "solver": solver})
    means = []
    for one in (SmallModel(), model):
        one.module.eval()
        rows: list[torch.Tensor] = []
        handle = one.unit("hidden").module.register_forward_hook(lambda _, __, y, rows=rows: rows.append(y.detach()))
        for batch in data():
            one.outputs(batch)
        handle.remove()
        means.append(torch.cat(rows).mean(0))
    torch.testing.assert_close(means[0], means[1], rtol=1e-4, atol=1e-5)
    assert model.unit("head").read().bias is None


def test_a_second_round_goes_on_from_the_first_to_its_own_count() -> None:
    model, dense = SmallModel(), SmallModel()
    stage = DARECompressor(0.8, solver="admm", allocation="uniform")
    for strength in (0.5, 0.8):
        report = stage.at(strength).apply(model, context_for(dense))
    assert all(zeros(model.unit(name)) == round(0.8 * model.unit(name).numel) for name in UNITS)
    assert report.touched["conv"]["nonzeros_before"] == 324 - 162


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("allocation", ["uniform", "owl", "sensitivity"])
def test_the_same_step_gives_the_same_bytes_again(solver: str, allocation: str) -> None:
    results = [pruned({"target_sparsity": 0.7, "solver": solver, "allocation": allocation})[0] for _ in range(2)]
    assert bits(results[0]) == bits(results[1])
