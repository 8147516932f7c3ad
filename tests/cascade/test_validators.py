"""Validators of functions, of objects that compute metrics, and of batches alone."""

import pytest
import torch
from torch import nn
from toys.stages import Erase
from toys.validators import Accuracy

from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.state import StateStore
from rcc.cascade.validators import OutputCosine, validator_of
from rcc.errors import UserError
from rcc.models.own.module import ModuleAdapter
from rcc.stages.dare.compressor import DARECompressor


def test_a_loss_in_the_first_place_is_refused(net, loader):
    class Loss:
        def compute_metrics(self, outputs, targets):
            return {"loss": nn.functional.cross_entropy(outputs, targets)}

    with pytest.raises(UserError, match="names 'loss' first, which is better when lower"):
        RCCPipeline(net, [Erase(0.1)]).run_pipeline(loader, Loss())


def test_the_cosine_of_the_dense_model_with_itself_is_one(net, points, tmp_path):
    store, model = StateStore(tmp_path), ModuleAdapter(net)
    measured = validator_of(OutputCosine(store, [{"input": points[0]}]), None)
    assert measured(model).main.value == 1
    store.save(0, "initial", model, {})
    assert measured(model).main.value == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        net[4].weight.neg_()
        net[4].bias.neg_()
    assert measured(model).main.value == pytest.approx(-1, abs=1e-6)


def test_what_cannot_be_a_validator_is_refused_before_anything_is_measured(net, loader, points):
    pipeline = RCCPipeline(net, [Erase(0.1)])
    with pytest.raises(UserError, match=r"Accuracy computes metrics.*call run_pipeline\(dataloader, validator\)"):
        pipeline.run(net, Accuracy(), calibration=loader)
    with pytest.raises(UserError, match="the validator is of type int"):
        pipeline.run(net, 3)
    with pytest.raises(UserError, match="was given no validator: a validator is a function of the model"):
        pipeline.run(net)
    with pytest.raises(UserError, match=r"the batches have no targets: give \(x, y\)"):
        pipeline.run_pipeline([points[0]], Accuracy())
    with pytest.raises(UserError, match="has no model yet"):
        RCCPipeline([Erase(0.1)]).run_pipeline(loader, Accuracy())
    assert pipeline.validation_metrics == {}


def test_without_a_validator_the_outputs_on_held_out_batches_are_compared_with_the_dense_models(net, loader, points):
    x = points[0]
    dense = net(x).detach()
    pipeline = RCCPipeline(performance_threshold=0.2).add_stage(DARECompressor(target_sparsity=0.6))
    pipeline.run(net, loader)
    metric = pipeline.validation_metrics["dare"].main
    assert metric.name == "output_cosine"
    rows = [slice(start, start + 32) for start in (96, 224)]
    cosines = [nn.functional.cosine_similarity(net(x[part]), dense[part], dim=1).mean() for part in rows]
    assert metric.value == pytest.approx(torch.stack(cosines).mean().item(), abs=1e-6)
    assert pipeline.history.dense.measurement.main.value == 1
    assert metric.value < 1


def test_a_resumed_run_compares_with_the_dense_outputs_of_the_first(net, loader, trained_state, tmp_path):
    class Killed:
        def step_finished(self, record):
            raise KeyboardInterrupt

        def __getattr__(self, event):
            return lambda *details: None

    whole = RCCPipeline([Erase(0.1), Erase(0.3)], directory=tmp_path / "whole")
    whole.run(net, loader)
    net.load_state_dict(trained_state)
    with pytest.raises(KeyboardInterrupt):
        RCCPipeline([Erase(0.1), Erase(0.3)], directory=tmp_path / "cut", observer=Killed()).run(net, loader)
    resumed = RCCPipeline([Erase(0.1), Erase(0.3)], directory=tmp_path / "cut")
    resumed.run(net, loader, resume=True)
    assert resumed.validation_metrics == whole.validation_metrics
