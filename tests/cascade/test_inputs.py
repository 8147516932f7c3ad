"""The forms in which batches, metrics, states and validators come to a pipeline, and those of the specification."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from toys.stages import Erase, Factor
from toys.validators import Accuracy

from rcc.cascade.inputs import Item, as_measurement, held_out, items_of
from rcc.cascade.pipeline import RCCPipeline
from rcc.errors import UserError
from rcc.measurement import Measurement, Metric
from rcc.models.own.module import ModuleAdapter
from rcc.stages.alpha.editor import AlphaEditor
from rcc.stages.nullu.projector import NulluProjector


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_specifications_pipeline_runs_from_descriptions_a_loader_and_an_evaluator(net, loader, points):
    stages = [
        {"type": "dare", "target_sparsity": 0.3, "solver": "admm"},
        {"name": "alpha", "repair": "least_squares", "num_epochs": 0},
    ]
    pipeline = RCCPipeline(net, stages, 0.9, True)
    assert pipeline.model.module is net
    compressed = pipeline.run_pipeline(loader, Accuracy())
    assert compressed.module is net
    dense = pipeline.validation_metrics["initial"]
    assert (dense.primary, dense.samples, dense["loss"].value) == ("accuracy", 64, 0.25)
    right = [net(points[0][start : start + 32]).argmax(1) == points[1][start : start + 32] for start in (96, 224)]
    assert pipeline.validation_metrics["alpha"].main.value == pytest.approx(torch.cat(right).float().mean().item())
    assert [record.outcome for record in pipeline.history.records] == ["kept", "kept"]


def test_batches_as_pairs_tensors_mappings_and_loaders_are_the_same_calibration(trained_state, points, validator):
    xs, ys = points[0].split(50), points[1].split(50)
    forms = {
        "mappings": [{"input": x} for x in xs],
        "tensors": list(xs),
        "pairs": list(zip(xs, ys, strict=True)),
        "loader": DataLoader(TensorDataset(*points), batch_size=50),
        "generator": ((x, y) for x, y in zip(xs, ys, strict=True)),
    }
    found = {}
    for form, calibration in forms.items():
        module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
        module.load_state_dict(trained_state)
        stages = [
            NulluProjector(0.8, energy_threshold=None, metric="calibration"),
            AlphaEditor(repair="least_squares", num_epochs=0),
        ]
        RCCPipeline(stages, performance_threshold=0.1).run(module, validator, calibration)
        found[form] = weights(module)
    assert not same(found["mappings"], trained_state)
    assert all(same(weights, found["mappings"]) for weights in found.values())


def test_every_fourth_batch_is_held_out_or_the_last_of_fewer():
    items = [Item({"x": torch.tensor(float(number))}) for number in range(9)]
    values = [[item.batch["x"].item() for item in part] for part in held_out(items)]
    assert values == [[0, 1, 2, 4, 5, 6, 8], [3, 7]]
    assert [len(part) for part in held_out(items[:2])] == [1, 1]
    with pytest.raises(UserError, match="1 batch cannot both calibrate stages and judge them"):
        held_out(items[:1])


def test_a_stage_that_learns_from_nothing_leaves_every_batch_to_the_gate(net, loader):
    pipeline = RCCPipeline(net, [Erase(0.1)])
    pipeline.run_pipeline(loader, Accuracy())
    assert pipeline.validation_metrics["initial"].samples == 300


@pytest.mark.parametrize("batch", ["text", 3, [], {"input": [1.0]}])
def test_what_is_no_batch_is_refused_with_the_form_that_is_wanted(net, batch):
    with pytest.raises(UserError, match="A batch is a tensor, a tuple or list"):
        items_of([batch], ModuleAdapter(net))


@pytest.mark.parametrize("loader", [torch.zeros(3), {"input": torch.zeros(3)}, "text", 3])
def test_a_batch_alone_is_no_loader(net, loader):
    with pytest.raises(UserError, match="give a DataLoader, or a list of batches"):
        items_of(loader, ModuleAdapter(net))


def test_metrics_are_a_measurement_numbers_by_name_or_one_number():
    assert as_measurement({"a": 0.5, "b": torch.tensor(2)}).main == Metric("a", 0.5)
    assert as_measurement(0.25).main == Metric("score", 0.25)
    measurement = Measurement((Metric("x", 1.0),), "x")
    assert as_measurement(measurement) is measurement
    for wrong in ({}, {"a": "good"}, "good", None):
        with pytest.raises(UserError, match=r"they must be a rcc\.Measurement, or numbers by name"):
            as_measurement(wrong)


def test_the_specifications_loop_by_hand_validates_saves_and_goes_back(net, loader):
    pipeline = RCCPipeline(net, [{"type": "dare", "target_sparsity": 0.95, "solver": "none", "allocation": "uniform"}])
    with pytest.raises(UserError, match=r"call validate_stage\('initial'"):
        pipeline.validate_stage("dare", Accuracy(), loader)
    metrics = pipeline.validate_stage("initial", Accuracy(), loader)
    assert (metrics["retention"], metrics["passed"]) == (1.0, True)
    dense = weights(net)
    pipeline.save_checkpoint("initial", net.state_dict(), {"accuracy": metrics["accuracy"]})
    Erase(0.99).apply(pipeline.model, None)
    after = pipeline.validate_stage("dare", Accuracy(), loader)
    assert after["accuracy"] < 0.95
    assert after["retention"] == pytest.approx(after["accuracy"] / metrics["accuracy"])
    assert after["passed"] is False
    assert list(pipeline.validation_metrics) == ["initial", "dare"]
    assert pipeline.rollback_to_checkpoint("initial")
    assert same(weights(net), dense)
    assert list(pipeline.validation_metrics) == ["initial"]
    assert not pipeline.rollback_to_checkpoint("dare")


@pytest.mark.parametrize("model", ["clip", 3, {"type": "dare"}])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(UserError, match=r"as in RCCPipeline\(model, stages="):
        RCCPipeline(model)


def test_the_specifications_attributes_are_there_after_construction(net):
    pipeline = RCCPipeline(net, [Erase(0.1), Factor()], performance_threshold=0.9, rollback_enabled=False)
    assert [stage.method for stage in pipeline.stages] == ["erase", "factor"]
    assert (pipeline.performance_threshold, pipeline.rollback_enabled) == (0.9, False)
    assert (pipeline.checkpoints, pipeline.validation_metrics, pipeline.current_stage) == ({}, {}, -1)
    assert list(pipeline.stage_configs) == ["erase", "factor"]
    assert pipeline.logger.name == "rcc.pipeline"
