"""solver=admm|obs, patterns and gradient scores through the stage: counts, order, errors, biases, refusals."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from layer_rows import context_for, data
from small_net import SmallModel
from torch import nn

from rcc.calibration.sites import sites
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.ops.quadratic import Quadratic
from rcc.stages.base import StageContext
from rcc.stages.dare import DARECompressor

UNITS = ("conv", "hidden", "head")
SOLVERS = ("admm", "obs")


def pruned(options: dict[str, Any], model: SmallModel | None = None) -> tuple[SmallModel, Any]:
    model = model or SmallModel()
    report = DARECompressor(**options).apply(model, context_for(SmallModel()))
    return model, report


def zeros(unit: Unit) -> int:
    return unit.read().stored - unit.read().nonzeros


def factorise(unit: Unit, rank: int, sparse: float = 0.0) -> None:
    weight = unit.read().dense().detach()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    pair = (left * values)[:, :rank].contiguous(), right[:rank].contiguous()
    rest = weight - pair[0] @ pair[1] if sparse else None
    unit.write(Form(rest, *pair, bias=unit.read().bias))


def bits(model: SmallModel) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in model.module.state_dict().values()]


def output_errors(model: SmallModel) -> dict[str, float]:
    """Σ (y − ŷ)² / Σ (y − ȳ)² of every layer, in the model as it is, against the dense model."""
    dense, errors = SmallModel(), {}
    outputs: dict[tuple[int, str], list[torch.Tensor]] = {}
    for number, one in enumerate((dense, model)):
        one.module.eval()
        handles = [
            one.unit(name).module.register_forward_hook(
                lambda _, __, y, key=(number, name): outputs.setdefault(key, []).append(
                    (y.movedim(1, -1).flatten(0, -2) if y.dim() > 2 else y).detach()
                )
            )
            for name in UNITS
        ]
        for batch in data():
            one.outputs(batch)
        for handle in handles:
            handle.remove()
    for name in UNITS:
        wanted, found = torch.cat(outputs[0, name]), torch.cat(outputs[1, name])
        centred = wanted - wanted.mean(0) if model.unit(name).read().bias is not None else wanted
        errors[name] = float((wanted - found).square().sum() / centred.square().sum())
    return errors


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
    masked, _ = pruned({"target_sparsity": 0.7})
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


def best_on_support(problem: Quadratic, support: torch.Tensor) -> torch.Tensor:
    """The best values on `support` (out, in), row by row, by direct solves."""
    best = torch.zeros(support.shape, dtype=torch.float64)
    for row, kept in enumerate(support):
        j = kept.nonzero().view(-1)
        best[row, j] = torch.linalg.solve(problem.moment[j][:, j].double(), problem.cross[row, j].double())
    return best


def assert_fitted_to_its_own_inputs(model: SmallModel, dense: SmallModel, name: str) -> None:
    """On the inputs that the layer now gets, near the best on its support; and nearer than a fit to dense inputs."""
    models = model, copy.deepcopy(dense)
    units = [one.unit(name) for one in models]
    own, blind = (
        next(iter(sites(one, dense, [unit], data(), torch.float64))) for one, unit in zip(models, units, strict=True)
    )
    weight, wanted = units[0].read().sparse, units[1].read().sparse.detach()
    problem = own.damped(wanted, 0.01)
    errors = [
        float(problem.error(one).sum())
        for one in (
            weight,
            best_on_support(problem, weight != 0),
            best_on_support(blind.damped(wanted, 0.01), weight != 0),
        )
    ]
    assert errors[1] * (1 - 1e-6) <= errors[0] <= errors[1] * 1.05
    assert errors[0] < errors[2]


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
    stage = DARECompressor(0.8, solver="admm")
    for strength in (0.5, 0.8):
        report = stage.at(strength).apply(model, context_for(dense))
    assert all(zeros(model.unit(name)) == round(0.8 * model.unit(name).numel) for name in UNITS)
    assert report.touched["conv"]["nonzeros_before"] == 324 - 162


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("allocation", ["uniform", "owl", "sensitivity"])
def test_the_same_step_gives_the_same_bytes_again(solver: str, allocation: str) -> None:
    results = [pruned({"target_sparsity": 0.7, "solver": solver, "allocation": allocation})[0] for _ in range(2)]
    assert bits(results[0]) == bits(results[1])


# ---- what there is nothing to solve for


class WordModel(SmallModel):
    """Beside the net an embedding before it, a grouped convolution, and a layer that never runs."""

    default_roles = ("linear", "conv", "embedding", "norm")

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.module.words = nn.Embedding(10, 12)
            self.module.grouped = nn.Conv2d(3, 3, 3, padding=1, groups=3)
            self.module.idle = nn.Linear(6, 4)

    def outputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        net = self.module
        pooled = net.conv(net.grouped(batch["images"])).relu().mean((2, 3)) + net.words(batch["labels"])
        return {"features": net.head(net.dropout(torch.tanh(net.hidden(net.norm(pooled)))))}


@pytest.mark.parametrize("solver", SOLVERS)
def test_embeddings_norms_and_layers_never_called_are_masked_with_a_note(solver: str) -> None:
    model, dense = WordModel(), WordModel()
    before = {name: dense.unit(name).read().sparse.clone() for name in ("words", "norm", "grouped", "idle")}
    report = DARECompressor(0.5, solver=solver).apply(model, context_for(dense))
    for name, weight in before.items():
        after = model.unit(name).read().sparse
        assert int((after == 0).sum()) == round(0.5 * weight.numel())
        assert torch.equal(after[after != 0], weight[after != 0])
    assert "no calibration batch reached it" in report.touched["idle"]["note"]
    assert "there is no solving for this embedding" in report.touched["words"]["note"]
    assert "output_error" in report.touched["hidden"]


def test_what_is_masked_goes_first_so_that_later_layers_make_up_for_it() -> None:
    model, dense = WordModel(), WordModel()
    DARECompressor(0.5, solver="admm", exclude=["conv"]).apply(model, context_for(dense))
    for name in ("hidden", "head"):
        assert_fitted_to_its_own_inputs(model, dense, name)


def test_a_unit_of_zeros_held_as_factors_harms_nothing() -> None:
    model = SmallModel()
    model.unit("hidden").write(Form(left=torch.zeros(16, 3), right=torch.zeros(3, 12), bias=torch.zeros(16)))
    pruned({"target_sparsity": 0.5, "solver": "admm"}, model)
    assert not any(bool(matrix.any()) for _, matrix in model.unit("hidden").read().matrices())
    assert bool(torch.isfinite(model.unit("head").read().sparse).all())


def test_without_a_dense_model_the_one_that_comes_in_is_the_target() -> None:
    model = SmallModel()
    DARECompressor(0.7, solver="admm").apply(model, StageContext(calibration=data()))
    assert bits(model) == bits(pruned({"target_sparsity": 0.7, "solver": "admm"})[0])


def test_progress_never_goes_back_and_ends_at_all_layers() -> None:
    seen: list[tuple[int, int]] = []
    model, dense = WordModel(), WordModel()
    context = replace(context_for(dense), progress=lambda done, total, what: seen.append((done, total)))
    DARECompressor(0.5, solver="admm").apply(model, context)
    assert seen == [(done, 7) for done in range(1, 8)]


# ---- refusals, before a weight is touched


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


# ---- scores by gradients


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
