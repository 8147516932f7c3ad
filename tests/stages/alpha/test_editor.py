"""AlphaEdit on a whole model: it learns, folds, keeps zeros, restores the structure, and says what it needs."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from toys.models import SmallModel, batches

from rcc.calibration.targets import dense_outputs
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.stages.alpha.editor import AlphaEditor
from rcc.stages.base import StageContext, UnitPlan
from rcc.stages.nullu.projector import NulluProjector

BATCHES = batches()


@pytest.fixture
def model():
    return SmallModel()


def context(model, **options):
    return StageContext(seed=5, calibration=BATCHES, targets=dense_outputs(model, BATCHES), **options)


def prune(model, name, share=0.7):
    unit = model.unit(name)
    form = unit.read()
    threshold = form.sparse.abs().flatten().kthvalue(int(share * unit.numel)).values
    unit.write(Form(sparse=torch.where(form.sparse.abs() > threshold, form.sparse, 0.0), bias=form.bias))


def test_the_loss_to_the_dense_outputs_falls_and_zeros_stay_positive_zeros(model):
    dense = context(model)
    for name in ("conv", "hidden", "head"):
        prune(model, name)
    zeros = {unit.name: unit.read().sparse == 0 for unit in model.units()}
    report = AlphaEditor(learning_rate=0.05, num_epochs=10).apply(model, dense)
    assert report.facts["loss_after"] < 0.9 * report.facts["loss_before"]
    for unit in model.units():
        weight = unit.read().sparse
        assert torch.equal(weight == 0, zeros[unit.name])
        assert not bool(torch.signbit(weight[zeros[unit.name]]).any())
    assert report.touched.keys() == {"conv", "hidden", "head"}
    facts = report.touched["head"]
    assert 0 < facts["alpha_min"] < facts["alpha_mean"] < facts["alpha_max"] < 2


def test_the_folded_model_gives_the_learned_loss(model):
    dense = context(model)
    prune(model, "hidden")
    stage = AlphaEditor(learning_rate=0.05, num_epochs=5)
    before = copy.deepcopy(model)
    report = stage.apply(model, dense)
    model.module.eval()
    found = torch.stack([
        1 - torch.cosine_similarity(model.outputs(batch)["features"], target["features"]).mean()
        for batch, target in zip(dense.calibration, dense.targets, strict=True)
    ]).mean()  # fmt: skip
    assert float(found.detach()) == pytest.approx(report.facts["loss_after"], abs=1e-6)
    scale = 2 * torch.sigmoid(stage.alpha_parameters["hidden"].detach())
    expected = before.module.hidden.weight * scale[:, None]
    torch.testing.assert_close(model.module.hidden.weight, expected, rtol=0, atol=1e-6)
    assert torch.equal(model.module.hidden.bias, before.module.hidden.bias)


def test_structure_flags_and_modes_are_as_before(model):
    dense = context(model)
    model.module.conv.weight.requires_grad_(False)
    NulluProjector(0.5, None, include=["hidden"]).apply(model, StageContext())
    model.module.train()
    before = [(name, type(part)) for name, part in model.module.named_modules()]
    keys = list(model.module.state_dict())
    AlphaEditor(num_epochs=1).apply(model, dense)
    assert [(name, type(part)) for name, part in model.module.named_modules()] == before
    assert list(model.module.state_dict()) == keys
    assert not model.module.conv.weight.requires_grad
    assert model.module.head.weight.requires_grad
    assert all(part.training for part in model.module.modules())
    assert model.unit("hidden").read().rank == 3


def test_dropout_is_off_while_learning_and_the_same_seed_gives_the_same_bits():
    models = [SmallModel(), SmallModel()]
    dense = context(models[0])
    for number, subject in enumerate(models):
        subject.module.train()
        prune(subject, "hidden")
        torch.manual_seed(number)  # the global generator must not matter
        AlphaEditor(num_epochs=2).apply(subject, dense)
    first, second = (subject.module.state_dict() for subject in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_alpha_never_ends_worse_than_it_began_however_large_the_steps(model):
    dense = context(model)
    before = copy.deepcopy(model.module.state_dict())
    report = AlphaEditor(learning_rate=3.0, num_epochs=2).apply(model, dense)
    assert report.facts["losses"][1] > 0.01
    assert report.facts["best_epoch"] == 0
    after = model.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_models_own_loss_needs_no_targets(model):
    stage = AlphaEditor(learning_rate=0.1, num_epochs=5, loss="model")
    assert not stage.needs_targets
    report = stage.apply(model, StageContext(calibration=BATCHES))
    assert report.facts["loss_after"] < report.facts["loss_before"]


def test_no_epochs_and_magnitudes_need_no_data_and_change_nothing(model):
    before = model.module.head.weight
    stage = AlphaEditor(repair="none", num_epochs=0)
    report = stage.apply(model, StageContext())
    assert (stage.needs_calibration, stage.needs_targets) == (False, False)
    assert model.module.head.weight is before
    assert stage.importance_scores.keys() == {"conv", "hidden", "head"}
    assert 0 < report.touched["head"]["importance_mean"] <= 1


@pytest.mark.parametrize("metric", ["gradient", "taylor", "fisher"])
def test_importance_from_gradients_is_gathered_over_the_calibration_data(model, metric):
    stage = AlphaEditor(num_epochs=0, importance_metric=metric, loss="model")
    assert stage.needs_calibration
    stage.apply(model, StageContext(calibration=BATCHES))
    scores = stage.importance_scores["hidden"]
    assert (scores.shape, float(scores.max())) == ((16,), 1.0)
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_missing_calibration_data_and_targets_are_said_with_what_to_do(model):
    with pytest.raises(UserError, match="no calibration data to learn from: give batches"):
        AlphaEditor().apply(model, StageContext())
    with pytest.raises(UserError, match=r"each of the 4 calibration batches; there are 0.*loss=model"):
        AlphaEditor(repair="none").apply(model, StageContext(calibration=BATCHES))


def test_norms_asked_for_by_name_are_left_with_their_reason(model):
    dense = context(model)
    report = AlphaEditor(num_epochs=1, include=["norm", "head"]).apply(model, dense)
    assert ("norm", "a norm's weight is a scale of its own") in [(s.name, s.reason) for s in report.skipped]
    assert list(report.touched) == ["head"]


def test_half_precision_is_refused_by_layer(model):
    dense = context(model)
    model.module.hidden.to(torch.bfloat16)
    with pytest.raises(UserError, match=r"hidden holds torch.bfloat16; .*float32"):
        AlphaEditor(num_epochs=1).apply(model, dense)


def task_checkpoint(path, model, **shifts):
    tensors = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    for name, shift in shifts.items():
        tensors[f"{name}.weight"] += shift
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    return path


def test_task_vectors_are_added_inside_the_mask_and_low_rank_layers_are_named(model, tmp_path):
    birds = task_checkpoint(tmp_path / "birds", model, conv=0.2, hidden=0.4, head=0.0)
    cars = task_checkpoint(tmp_path / "cars", model, conv=0.0, hidden=-0.2, head=0.0)
    dense = {unit.name: unit.read().sparse.clone() for unit in model.units()}
    prune(model, "hidden")
    NulluProjector(0.5, None, include=["head"]).apply(model, StageContext())
    pruned = model.unit("hidden").read().sparse.clone()
    stage = AlphaEditor(
        num_epochs=0,
        task_checkpoints={"birds": birds, "cars": cars},
        task_weights={"birds": 0.75, "cars": 0.25},
        task_strength=2.0,
    )
    report = stage.apply(model, StageContext(reference=dense.__getitem__))
    expected = torch.where(pruned != 0, pruned + 2 * (0.75 * 0.4 - 0.25 * 0.2), 0.0)
    torch.testing.assert_close(model.unit("hidden").read().sparse, expected)
    torch.testing.assert_close(model.unit("conv").read().sparse, dense["conv"] + 2 * 0.75 * 0.2)
    assert report.facts["task_vector_not_added"] == ["head"]
    assert report.touched["hidden"]["task_change"] > 0
    assert "task_change" not in report.touched["head"]
    assert (stage.task_vectors, stage.interpolated) == ({}, {})


def test_a_task_checkpoint_that_lacks_a_layer_or_has_another_shape_is_refused_by_name(model, tmp_path):
    path = tmp_path / "birds.safetensors"
    save_file({"conv.weight": torch.zeros(12, 3, 3, 3), "head.weight": torch.zeros(3, 3)}, path)
    stage = AlphaEditor(num_epochs=0, task_checkpoints={"birds": path})
    dense = {unit.name: unit.read().sparse for unit in model.units()}
    with pytest.raises(UserError) as caught:
        stage.apply(model, StageContext(reference=dense.__getitem__))
    assert "no tensor 'hidden.weight'" in str(caught.value)
    assert "'head.weight' has shape (3, 3); the layer's weight is (10, 16)" in str(caught.value)
    with pytest.raises(UserError, match="need the dense weights"):
        stage.apply(model, StageContext())


def test_the_plan_counts_no_byte_more_or_less(model):
    plans = [UnitPlan.of(unit) for unit in model.units()]
    found = AlphaEditor().plan(plans, 2)
    assert [plan.matrices for plan in found] == [plan.matrices for plan in plans]
    assert {plan.name: plan.note for plan in found}["norm"].startswith("left as it is")


def test_alpha_has_no_strength():
    stage = AlphaEditor()
    assert stage.strength is None
    with pytest.raises(UserError, match="no strength"):
        stage.at(0.5)


def test_all_bad_options_are_reported_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        AlphaEditor(
            0.0, "size", num_epochs=-1, loss="other", l2=-1.0, clip_norm=0.0, clamp=0.0,
            task_checkpoints={"birds": tmp_path / "nowhere"}, task_weights={"birds": 0.9},
        )  # fmt: skip
    text = str(caught.value)
    for part in ("learning_rate", "num_epochs", "'size'", "'other'", "l2", "clip_norm", "clamp", "nowhere", "0.9"):
        assert part in text
    assert len(caught.value.problems) == 9


def test_an_embedding_asked_for_by_name_learns_a_scale_per_row():
    model = SmallModel()
    table = nn.Embedding(5, 4)
    model.module = nn.Sequential(table, nn.Flatten(), nn.Linear(8, 3))
    items = [{"images": torch.tensor([[0, 1], [2, 4]])}]
    targets = [{"features": torch.randn(2, 3, generator=torch.Generator().manual_seed(0))}]
    stage = AlphaEditor(learning_rate=0.1, num_epochs=3, include=["0"])
    before = table.weight.detach().clone()
    stage.apply(model, StageContext(calibration=items, targets=targets))
    changed = (model.module[0].weight != before).any(1)
    assert changed.tolist() == [True, True, True, False, True]  # row 3 is never looked up


@pytest.mark.parametrize("option", ["learning_rate", "num_epochs", "l2", "clip_norm", "clamp", "task_strength"])
def test_an_option_that_is_no_number_is_refused_by_name(option):
    with pytest.raises(UserError, match=f"{option} is 'much'"):
        AlphaEditor(**{option: "much"})
