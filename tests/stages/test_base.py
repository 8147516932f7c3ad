"""What every stage has: its context, plans in bytes, a report that accounts for the model, errors that name a layer."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from toys.models import SmallModel, batches
from toys.stages import Erase

from rcc.errors import UserError, WorkError
from rcc.layers.encoding import encode
from rcc.layers.form import Form
from rcc.layers.selection import Selection
from rcc.stages.base import StageContext, StageReport, UnitPlan, bytes_of, naming, planned


@pytest.fixture
def model() -> SmallModel:
    return SmallModel()


def test_a_generator_is_seeded_for_the_step_and_not_shared():
    context = StageContext(seed=3)
    first, again = (torch.rand(4, generator=context.generator()) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(4, generator=StageContext(seed=4).generator()))


def test_the_dense_model_is_the_one_known_and_else_a_copy_of_the_model_as_it_is(model):
    known = SmallModel(seed=1)
    with StageContext(dense=lambda: nullcontext(known)).dense_beside(model) as dense:
        assert dense is known
    model.module.eval()
    batch = batches(1)[0]
    expected = model.outputs(batch)["features"]
    with StageContext().dense_beside(model) as dense:
        with torch.no_grad():
            model.module.head.weight.zero_()
        assert torch.equal(dense.outputs(batch)["features"], expected)
        assert not torch.equal(model.outputs(batch)["features"], expected)


def test_a_plan_of_a_unit_counts_its_values_and_on_the_meta_device_takes_all_for_non_zero(model):
    with torch.no_grad():
        model.module.hidden.weight.view(-1)[:50] = 0
    plan = UnitPlan.of(model.unit("hidden"))
    assert (plan.name, plan.kind, plan.shape, plan.factorable) == ("hidden", "linear", (16, 12), True)
    assert plan.matrices == {"sparse": (192, 142)}
    model.module.to("meta")
    assert UnitPlan.of(model.unit("hidden")).matrices == {"sparse": (192, 192)}


@pytest.mark.parametrize("zeros", [0, 20, 150, 192])
def test_planned_bytes_are_at_least_what_the_artifact_takes_and_close(model, zeros):
    weight = model.module.hidden.weight
    with torch.no_grad():
        weight.view(-1)[torch.randperm(192, generator=torch.Generator().manual_seed(0))[:zeros]] = 0
    written = encode(weight).nbytes
    assert written <= bytes_of(model.unit("hidden"), 4) <= written + 4


def test_steps_make_a_matrix_of_bytes_and_are_counted_themselves(model):
    plan = UnitPlan.of(model.unit("hidden"))
    quantised = UnitPlan(**vars(plan) | {"steps": {"sparse": 16}})
    assert (plan.nbytes(4), quantised.nbytes(4)) == (192 * 4, 192 + 16 * 4)


def test_new_matrices_replace_a_plans_and_its_steps_and_a_note_alone_leaves_them(model):
    plan = UnitPlan(**vars(UnitPlan.of(model.unit("hidden"))) | {"steps": {"sparse": 16}})
    noted = planned(plan, "left alone")
    assert (noted.note, noted.matrices, noted.steps) == ("left alone", plan.matrices, plan.steps)
    factored = planned(plan, "rank 2", left=(32, 32), right=(24, 24))
    assert (factored.matrices, factored.steps) == ({"left": (32, 32), "right": (24, 24)}, {})


def test_a_report_accounts_for_every_matrix_value_once(model):
    model.module.register_module("recurrent", nn.LSTM(2, 3))
    stage = Erase()
    chosen, skipped = stage.choose(model)
    report = StageReport(skipped=skipped)
    report.touched = {unit.name: {} for unit in chosen[:-1]}
    report.skip(chosen[-1], "on purpose")
    every = sum(parameter.numel() for parameter in model.module.parameters() if parameter.dim() > 1)
    account = report.account(model)
    assert account["touched"] == sum(unit.matrix_values for unit in chosen[:-1])
    assert account["touched"] + account["left"] == every
    assert "recurrent" in {one.name for one in report.skipped}


def test_a_unit_that_was_skipped_and_then_touched_counts_as_touched(model):
    report = StageReport()
    unit = model.unit("hidden")
    report.skip(unit, "not yet")
    report.touched["hidden"] = {}
    assert report.account(model) == {"touched": 192, "left": 0}


def test_what_a_selection_names_in_vain_is_told_with_the_stage(model):
    stage = Erase(label="erase_2")
    stage.selection = Selection(include=["hiden"])
    with pytest.raises(UserError, match=r"stage 'erase_2': .*hiden"):
        stage.choose(model)


def test_a_stage_is_called_by_its_label_or_its_method():
    assert Erase().who == "stage 'erase'"
    assert Erase().labelled("erase_2").who == "stage 'erase_2'"


def test_a_stage_that_foresees_nothing_leaves_the_form(model):
    form = model.unit("hidden").read()
    assert Erase().foresee(model.unit("hidden"), form, torch.float16) is form


def test_an_error_at_a_layer_names_stage_layer_and_shape_and_our_own_pass_unchanged(model):
    unit, stage = model.unit("hidden"), Erase()
    with (
        pytest.raises(WorkError, match=r"stage 'erase' at layer hidden \(16, 12\): RuntimeError: singular"),
        naming(stage, unit),
    ):
        raise RuntimeError("singular")
    for own in (UserError("no data"), WorkError("not finite")):
        with pytest.raises(type(own)) as raised, naming(stage, unit):
            raise own
        assert raised.value is own


def test_a_factored_unit_is_planned_by_its_factors(model):
    unit = model.unit("hidden")
    unit.write(Form(left=torch.ones(16, 2), right=torch.ones(2, 12), bias=unit.read().bias))
    assert UnitPlan.of(unit).matrices == {"left": (32, 32), "right": (24, 24)}
    assert bytes_of(unit, 2) == 112
