"""A target split among stages: shares follow the harm each does alone, strengths follow them, resume keeps both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toys.stages import Cut

from rcc.artifact.size import model_size
from rcc.cascade.bytes.budget import REPEATS, Target
from rcc.cascade.bytes.shares import equal_shares, measured_shares
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageReport
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.nullu.projector import NulluProjector


class Behead(Cut):
    """Zeroes the largest values instead of the smallest: as many bytes less, and far more harm."""

    method = "behead"

    def apply(self, model, context):
        for unit in self.choose(model)[0]:
            form = unit.read()
            weight = form.dense().clone()
            flat, kept = weight.view(-1), torch.nonzero(weight.view(-1)).view(-1)
            most = flat[kept].abs().argsort(descending=True, stable=True)
            zeros = round(self.share * weight.numel()) - (weight.numel() - len(kept))
            flat[kept[most[: max(0, zeros)]]] = 0
            unit.write(Form(sparse=weight, bias=form.bias))
        return StageReport()


class Coarse(Cut):
    """Cuts in steps of a twelfth of the values, which its plan does not know."""

    method = "coarse"

    def apply(self, model, context):
        return Cut(round(self.share * 12) / 12, self.label).apply(model, context)


def model():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32))
    return ModuleAdapter(module, outputs=lambda batch: {"out": module(batch["input"])})


def batches():
    generator = torch.Generator().manual_seed(1)
    return [{"input": torch.randn(8, 48, generator=generator)} for _ in range(3)]


class Watch:
    def __init__(self, stop_after=None):
        self.shares, self.strengths, self.reached, self.stop_after = {}, [], [], stop_after

    def target_shared(self, shares):
        self.shares = dict(shares)

    def step_started(self, step, attempt, strength):
        self.strengths.append((step.label, strength))

    def step_finished(self, record):
        if record.step.index == self.stop_after:
            raise KeyboardInterrupt

    def round_repeated(self, steps, outcome):
        self.reached.append(outcome.reached)

    def __getattr__(self, event):
        return lambda *details: None


def ran(stages, nbytes, split="measured", watch=None, **options):
    resume = options.pop("resume", False)
    pipeline = RCCPipeline(
        stages,
        target=Target(nbytes, split=split),
        storage_entropy="none",
        schedule=Schedule(2, "geometric"),
        performance_threshold=1e-6,
        observer=watch or Watch(),
        **options,
    )
    adapter = model()
    pipeline.run(adapter, lambda adapter: 1.0, batches(), resume=resume)
    return pipeline, adapter


def test_shares_are_the_inverse_of_the_harm_that_each_stage_does_alone():
    adapter, data = model(), batches()
    dense = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    scales = {"soft": 0.9, "hard": 0.1}

    def apply(stage):
        with torch.no_grad():
            adapter.module[0].bias.add_(scales[stage.label])

    stages = [Cut(label="soft"), Cut(label="hard")]
    shares = measured_shares(adapter, stages, data, apply, lambda: adapter.module.load_state_dict(dense))

    def harm(shift):
        found = []
        for batch in data:
            hidden = batch["input"] @ dense["0.weight"].T + dense["0.bias"]
            outs = []
            for extra in (0.0, shift):
                second = torch.relu(hidden + extra) @ dense["2.weight"].T + dense["2.bias"]
                outs.append((torch.relu(second) @ dense["4.weight"].T + dense["4.bias"]).numpy().astype(np.float64))
            cosine = (outs[0] * outs[1]).sum(1) / np.linalg.norm(outs[0], axis=1) / np.linalg.norm(outs[1], axis=1)
            found.append((1 - cosine).mean())
        return float(np.mean(found))

    weights = {label: 1 / harm(shift) for label, shift in scales.items()}
    assert shares == pytest.approx(
        {label: weight / sum(weights.values()) for label, weight in weights.items()}, rel=1e-3
    )
    assert sum(shares.values()) == pytest.approx(1)
    assert all(torch.equal(tensor, dense[name]) for name, tensor in adapter.module.state_dict().items())


def test_stages_that_do_no_harm_share_alike():
    stages = [Cut(label="a"), Cut(label="b")]
    shares = measured_shares(model(), stages, batches(), lambda stage: None, lambda: None)
    assert shares == pytest.approx(equal_shares(stages))


@pytest.mark.parametrize("order", [("cut", "behead"), ("behead", "cut")])
def test_the_stage_that_harms_more_goes_less_of_the_way(order):
    watch = Watch()
    stages = [{"cut": Cut, "behead": Behead}[label](label=label) for label in order]
    made, adapter = ran(stages, 5000, watch=watch)
    assert watch.shares["behead"] < 0.2
    reached = model_size(adapter, torch.float16, "none").nbytes
    assert abs(reached - 5000) <= 50
    assert made.get_pipeline_summary().target.reason == ""
    strengths = [strength for label, strength in watch.strengths if label == "behead"]
    if order[0] == "behead":
        # Whatever a later cut zeroes counts from nothing, so the first of the two has its own share alone to show.
        assert max(strengths) < 0.6


def test_with_split_last_the_others_keep_their_own_strengths():
    watch = Watch()
    ran([Cut(0.3, "a"), Cut(label="b")], 5000, split="last", watch=watch)
    assert watch.shares == {}
    first = [strength for label, strength in watch.strengths if label == "a"]
    assert first == [pytest.approx(1 - 0.7**0.5), 0.3]


@pytest.mark.parametrize("nbytes", [3000, 5000])
def test_low_rank_and_pruning_share_a_target_and_meet_it(nbytes):
    watch = Watch()
    made, adapter = ran([NulluProjector(energy_threshold=None), DARECompressor()], nbytes, watch=watch)
    assert set(watch.shares) == {"nullu", "dare"}
    assert abs(model_size(adapter, torch.float16, "none").nbytes - nbytes) <= 0.01 * nbytes
    assert [record.step.strength for record in made.get_pipeline_summary().records] == [None] * 4


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_keeps_the_shares_it_had_measured(tmp_path, stop_after):
    stages = lambda: [Behead(label="behead"), Cut(label="cut")]  # noqa: E731
    whole, expected = ran(stages(), 4000, directory=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        ran(stages(), 4000, watch=Watch(stop_after), directory=tmp_path / "cut")
    watch = Watch()
    resumed, found = ran(stages(), 4000, watch=watch, directory=tmp_path / "cut", resume=True)
    assert watch.shares == {}
    assert resumed.history.budget == whole.history.budget
    pairs = zip(found.module.state_dict().items(), expected.module.state_dict().items(), strict=True)
    assert all(one == other and torch.equal(left, right) for (one, left), (other, right) in pairs)


def test_of_results_that_all_miss_the_nearest_is_the_one_kept():
    watch = Watch()
    made, adapter = ran([Coarse(label="coarse")], 5400, watch=watch)
    outcome = made.get_pipeline_summary().target
    assert outcome.reason
    assert outcome.repeats == len(watch.reached) <= REPEATS + 1
    assert model_size(adapter, torch.float16, "none").nbytes == outcome.reached
    assert abs(outcome.reached - 5400) == min(abs(reached - 5400) for reached in [*watch.reached, outcome.reached])


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="'fair'"):
        Target(1000, split="fair")
