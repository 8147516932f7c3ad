"""score=wanda: the published choice row by row, factors by their own inputs, exact counts in every scope."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys.models import SmallModel, batches

from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.stages.base import StageContext, UnitPlan
from rcc.stages.dare.compressor import DARECompressor

UNITS = ("conv", "hidden", "head")


@pytest.fixture
def model() -> SmallModel:
    return SmallModel()


@pytest.fixture
def context() -> StageContext:
    return StageContext(calibration=batches())


def factorise(unit: Unit, rank: int) -> None:
    left, values, right = torch.linalg.svd(unit.read().dense().detach(), full_matrices=False)
    unit.write(Form(left=left[:, :rank] * values[:rank], right=right[:rank], bias=unit.read().bias))


def inputs_of(model: SmallModel, name: str) -> np.ndarray:
    """The rows that the unit's weight meets on the batches, (n, in) float64, by an independent hook."""
    found = []

    def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        x = args[0]
        if x.dim() == 4:
            x = torch.nn.functional.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
            x = x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        found.append(x.double().numpy())

    handle = model.unit(name).module.register_forward_pre_hook(hook)
    model.module.eval()
    with torch.no_grad():
        for batch in batches():
            model.outputs(batch)
    handle.remove()
    return np.concatenate(found)


def wanda(weight: np.ndarray, inputs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sun et al. (2023), section 3: in each row the smallest |W| · ‖X‖₂ go; here as many as `counts` says."""
    metric = np.abs(weight) * np.linalg.norm(inputs, axis=0)
    pruned = weight.copy()
    for row, count in enumerate(counts):
        pruned[row, np.argsort(metric[row], kind="stable")[:count]] = 0
    return pruned


def zeros(unit: Unit) -> int:
    return unit.read().stored - unit.read().nonzeros


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("target", [0.25, 0.5, 0.8])
def test_the_values_that_go_are_those_of_the_published_formula(name, target, model, context) -> None:
    weight, inputs = model.unit(name).read().dense().double().numpy(), inputs_of(model, name)
    DARECompressor(target, score="wanda", include=[name]).apply(model, context)
    after = model.unit(name).read().dense().double().numpy()
    counts = (after == 0).sum(1)
    assert counts.sum() == round(target * weight.size)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(after, wanda(weight, inputs, counts))


@pytest.mark.parametrize("rank", [3, 5])
def test_factors_are_pruned_by_the_inputs_that_each_of_them_meets(rank, model, context) -> None:
    factorise(model.unit("hidden"), rank)
    form, inputs = model.unit("hidden").read(), inputs_of(model, "hidden")
    left, right = form.left.detach().double().numpy(), form.right.detach().double().numpy()
    DARECompressor(0.5, score="wanda", include=["hidden"]).apply(model, context)
    form = model.unit("hidden").read()
    assert zeros(model.unit("hidden")) == round(0.5 * form.stored)
    for before, after, x in ((right, form.right, inputs), (left, form.left, inputs @ right.T)):
        after = after.detach().double().numpy()
        np.testing.assert_array_equal(after, wanda(before, x, (after == 0).sum(1)))


def test_in_one_pool_factors_compete_by_the_output_error_that_each_value_costs(model, context) -> None:
    factorise(model.unit("hidden"), 3)
    form, inputs = model.unit("hidden").read(), inputs_of(model, "hidden")
    left, right = form.left.detach().double().numpy(), form.right.detach().double().numpy()
    dense = inputs @ right.T @ left.T
    costs = []
    for matrix in (left, right):  # the definition: take one value out and look at the outputs
        for place in np.ndindex(*matrix.shape):
            kept, matrix[place] = matrix[place], 0.0
            costs.append(np.linalg.norm(inputs @ right.T @ left.T - dense))
            matrix[place] = kept
    count = round(0.4 * len(costs))
    expected = np.argsort(costs)[:count]
    DARECompressor(0.4, score="wanda", scope="layer", include=["hidden"]).apply(model, context)
    form = model.unit("hidden").read()
    gone = np.concatenate([(form.left == 0).numpy().ravel(), (form.right == 0).numpy().ravel()])
    assert set(np.flatnonzero(gone)) == set(expected)


@pytest.mark.parametrize("scope", ["row", "layer", "tower", "global"])
@pytest.mark.parametrize("score", ["magnitude", "random", "wanda"])
def test_counts_are_exact_in_every_scope_over_several_steps_and_masks_nested(scope, score, model, context) -> None:
    factorise(model.unit("hidden"), 4)
    stage = DARECompressor(0.77, num_iterations=3, score=score, scope=scope)
    stage.prepare(model, context)
    kept = stage.pruning_masks
    for _ in range(3):
        stage.apply_pruning_step()
        assert all(bool((mask <= kept[name]).all()) for name, mask in stage.pruning_masks.items())
        kept = stage.pruning_masks
    units = [model.unit(name) for name in UNITS]
    if scope in ("row", "layer"):
        assert [zeros(unit) for unit in units] == [round(0.77 * unit.read().stored) for unit in units]
    pools = [units] if scope == "global" else [[unit] for unit in units]  # each unit is a tower of its own
    for pool in pools:
        assert sum(map(zeros, pool)) == round(0.77 * sum(unit.read().stored for unit in pool))


def test_the_plan_has_the_counts_of_the_run(model, context) -> None:
    stage = DARECompressor(0.6, score="wanda")
    plans = stage.plan([UnitPlan.of(model.unit(name)) for name in UNITS], 2)
    stage.apply(model, context)
    for plan in plans:
        form = model.unit(plan.name).read()
        assert plan.matrices == {"sparse": (form.stored, form.nonzeros)}


def test_rows_are_the_default_scope_of_this_score_and_layers_of_the_others() -> None:
    assert DARECompressor(score="wanda").options.shared_in == "row"
    assert DARECompressor().options.shared_in == DARECompressor(score="random").options.shared_in == "layer"
    assert DARECompressor(score="wanda", scope="global").at(0.3).options.shared_in == "global"
    assert DARECompressor(score="wanda").at(0.3).options.shared_in == "row"


def test_it_asks_for_calibration_data_and_touches_nothing_without(model) -> None:
    stage = DARECompressor(0.5, score="wanda")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    assert stage.needs_calibration
    assert not DARECompressor(0.5).needs_calibration
    with pytest.raises(UserError, match="score=wanda needs calibration data, and there is none"):
        stage.apply(model, StageContext())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())


def test_importance_allocation_with_this_score_is_refused() -> None:
    with pytest.raises(UserError, match="take score=magnitude"):
        DARECompressor(0.5, score="wanda", allocation="importance")


def test_units_without_known_inputs_are_ranked_by_magnitude_and_say_so(model, context) -> None:
    with torch.no_grad():
        model.module.norm.weight.copy_(torch.arange(12.0) - 5.5)
        model.module.hidden.weight.fill_(0.0)
        model.module.hidden.bias.fill_(0.0)  # so that nothing arrives at the head
    head = model.unit("head").read().dense().clone()
    stage = DARECompressor(0.5, score="wanda", scope="layer", roles=["linear", "norm"], include=["norm", "head"])
    report = stage.apply(model, context)
    assert "inputs of this norm have no moments" in report.touched["norm"]["note"]
    assert "no calibration batch reached it" in report.touched["head"]["note"]
    assert model.module.norm.weight.nonzero().view(-1).tolist() == [0, 1, 2, 9, 10, 11]
    by_size = head.abs().flatten().argsort(stable=True)[: head.numel() // 2]
    assert not bool(model.unit("head").read().dense().flatten()[by_size].any())


def test_it_comes_out_the_same_again(context) -> None:
    first, second = SmallModel(), SmallModel()
    for model in (first, second):
        DARECompressor(0.6, score="wanda", scope="global").apply(model, context)
    assert all(
        torch.equal(tensor, second.module.state_dict()[name]) for name, tensor in first.module.state_dict().items()
    )
