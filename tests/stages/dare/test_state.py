"""The state of a model under pruning: what is counted, scored, zeroed, made up for and put back."""

from __future__ import annotations

import pytest
import torch
from toys.models import SmallModel, batches
from toys.solved_layers import factorise

from rcc.errors import UserError
from rcc.layers.units import Unit
from rcc.stages.base import StageContext
from rcc.stages.dare.state import PruningState, copy_of, matrix_names
from rcc.stages.dare.values import StoredValues

NAMES = ("hidden", "head")
VALUES = 16 * 12 + 10 * 16


@pytest.fixture
def model() -> SmallModel:
    return SmallModel()


def units_of(model: SmallModel) -> list[Unit]:
    return [model.unit(name) for name in NAMES]


def state_of(model: SmallModel, **context: object) -> PruningState:
    return PruningState(units_of(model), StoredValues(), StageContext(**context))


def prune(state: PruningState, count: int, score: str = "magnitude", scope: str = "global") -> None:
    masks = state.masks(state.units, score, scope, count)
    for unit in state.units:
        state.prune(unit, masks)


def test_the_smallest_magnitudes_of_all_units_go_and_no_others(model):
    before = [unit.read().dense().clone() for unit in units_of(model)]
    threshold = torch.cat([weight.flatten().abs() for weight in before]).sort().values[99]
    prune(state_of(model), 100)
    for unit, weight in zip(units_of(model), before, strict=True):
        assert torch.equal(unit.read().dense(), weight.masked_fill(weight.abs() <= threshold, 0.0))


@pytest.mark.parametrize("score", ["magnitude", "random"])
@pytest.mark.parametrize("scope", ["global", "row"])
def test_exactly_the_count_goes_whatever_the_score_and_scope(model, score, scope):
    state = state_of(model)
    prune(state, 123, score, scope)
    whole, each = state.sparsity()
    assert whole == pytest.approx(123 / VALUES)
    assert sum(each[name] * size for name, size in zip(NAMES, (192, 160), strict=True)) == pytest.approx(123)


def test_random_scores_are_those_of_the_seed(model):
    found = []
    for seed in (0, 0, 1):
        twin = SmallModel()
        prune(state_of(twin, seed=seed), 100, "random")
        found.append(torch.cat([unit.read().dense().flatten() != 0 for unit in units_of(twin)]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_survivals_make_up_for_what_went_since_the_counts_were_noted(model):
    state = state_of(model)
    prune(state, 100, "random", "row")
    state.note_counts()
    before = state.counts(state.units[0])["sparse"][1]
    prune(state, 250, "random", "row")
    after = state.counts(state.units[0])["sparse"][1]
    assert state.survivals(state.units[0]) == {"sparse": before / after}


def test_rows_are_multiplied_once_through_sparse_part_and_left_factor(model):
    unit = model.unit("hidden")
    factorise(unit, 2, sparse=1.0)
    state = state_of(model)
    factors = torch.arange(16.0)
    before, right = unit.read().dense().clone(), unit.read().right.clone()
    state.multiply_rows(unit, factors)
    torch.testing.assert_close(unit.read().dense(), factors[:, None] * before)
    assert torch.equal(unit.read().right, right)


def test_scores_by_gradients_are_those_of_the_calibration_loss(model):
    state = state_of(model, calibration=batches())
    state.calibrate(model, "taylor", inputs=False)
    scores = state.scores(state.units, "taylor")
    model.module.eval()
    losses = [model.loss(batch) for batch in batches()]
    weight = model.module.head.weight
    gradient = torch.autograd.grad(sum(losses) / len(losses), weight)[0]
    torch.testing.assert_close(scores[1], (weight * gradient).abs().detach(), rtol=1e-4, atol=1e-9)
    state.forget_gradients()
    with pytest.raises(AssertionError):
        state.scores(state.units, "taylor")[1]


@pytest.mark.parametrize("reference", [False, True])
def test_restoring_gives_back_the_dense_weight_and_the_bias_of_now(model, reference):
    dense = SmallModel()
    context = {"reference": lambda name: dense.unit(name).read().dense()} if reference else {}
    state = state_of(model, **context)
    prune(state, 300)
    unit = model.unit("hidden")
    state.restore(unit)
    assert torch.equal(unit.read().dense(), dense.unit("hidden").read().dense())
    assert torch.equal(unit.read().bias, dense.unit("hidden").read().bias)


def test_facts_and_totals_are_counts_bytes_and_the_relative_error(model):
    state = state_of(model)
    original = model.unit("hidden").read().dense().clone()
    prune(state, 300)
    unit = model.unit("hidden")
    left = int((unit.read().dense() != 0).sum())
    facts = state.facts(unit)
    assert (facts["stored"], facts["nonzeros"], facts["pruned"], facts["nonzeros_before"]) == (
        192,
        left,
        192 - left,
        192,
    )
    error = (original - unit.read().dense()).norm() / original.norm()
    assert facts["relative_error"] == pytest.approx(float(error))
    totals = state.totals()
    assert (totals["total_parameters"], totals["pruned_parameters"]) == (VALUES, 300)
    assert totals["original_bytes"] == 4 * VALUES
    assert totals["compressed_bytes"] == sum(layer["bytes"] for layer in totals["layers"].values())
    assert totals["memory_reduction"] == pytest.approx(1 - totals["compressed_bytes"] / totals["original_bytes"])


def test_a_few_zeros_that_take_no_fewer_bytes_are_noted(model):
    state = state_of(model)
    prune(state, 1)
    pruned = next(unit for unit in state.units if state.stats(unit)["pruned"])
    assert "byte" in state.facts(pruned)["note"]
    prune(state, 300)
    assert "note" not in state.facts(pruned)


def test_kept_masks_have_the_weights_shape_or_are_named_by_factor(model):
    factorise(model.unit("hidden"), 2)
    state = state_of(model)
    prune(state, 40)
    kept = state.kept()
    assert {name: tuple(mask.shape) for name, mask in kept.items()} == {
        "hidden.left": (16, 2), "hidden.right": (2, 12), "head": (10, 16),
    }  # fmt: skip
    assert sum(int((~mask).sum()) for mask in kept.values()) == 40
    assert matrix_names(model.unit("hidden")) == ["left", "right"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_units_that_are_not_finite_are_refused_by_name(model, value):
    with torch.no_grad():
        model.module.head.weight[0, 0] = value
    with pytest.raises(UserError, match="NaN or infinite weights in head"):
        state_of(model)


def test_a_copy_of_a_form_shares_no_memory(model):
    form = model.unit("hidden").read()
    copy = copy_of(form)
    assert torch.equal(copy.dense(), form.dense())
    assert copy.sparse.data_ptr() != form.sparse.data_ptr()
    assert copy.bias.data_ptr() != form.bias.data_ptr()
