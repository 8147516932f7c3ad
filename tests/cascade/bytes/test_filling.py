"""A target that rounding fills: its bytes, how far is pruned before, what is left out and why, and kills."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from toys.models import chain as plain

from rcc.artifact.contents import checksum
from rcc.artifact.size import model_size
from rcc.cascade.bytes.budget import Target
from rcc.cascade.bytes.filling import COARSE, Filling, filling, share_kept, share_to_prune_to, why_left_out
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.records import LEFT_OUT, UNREACHED, Unobserved
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import Stage
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.quant.quantizer import Quantizer
from rcc.stages.recover import Recovery


def batches(model: ModuleAdapter, count: int = 4) -> list[dict[str, torch.Tensor]]:
    width = next(unit for unit in model.units()).shape[1]
    generator = torch.Generator().manual_seed(5)
    return [{"input": torch.randn(16, width, generator=generator)} for _ in range(count)]


def made(stages: list[Stage], nbytes: int, rounds: int = 3, validator=lambda adapter: 1.0, **options) -> RCCPipeline:
    resume = options.pop("resume", False)
    pipeline = RCCPipeline(
        stages, performance_threshold=0.9, target=Target(nbytes), schedule=Schedule(rounds, "geometric"), **options
    )
    model = plain()
    pipeline.run(model, validator, calibration=batches(model), resume=resume)
    return pipeline


def reached(pipeline: RCCPipeline) -> int:
    assert pipeline.model is not None
    return model_size(pipeline.model, torch.float16, "zstd").nbytes


@pytest.mark.parametrize("nbytes", [1500, 2500, 5000])
@pytest.mark.parametrize("stages", [lambda: [Quantizer()], lambda: [DARECompressor(), Quantizer()]])
def test_the_artifact_comes_out_within_one_per_cent_of_the_target(stages, nbytes):
    pipeline = made(stages(), nbytes)
    outcome = pipeline.get_pipeline_summary().target
    assert outcome is not None
    assert (outcome.reached, outcome.reason) == (reached(pipeline), "")
    assert abs(outcome.reached - nbytes) <= 0.01 * nbytes


def test_where_bits_are_enough_for_every_value_pruning_is_left_out_with_the_reason():
    records = made([DARECompressor(), Quantizer()], 6000).get_pipeline_summary().records
    assert [record.outcome for record in records] == [LEFT_OUT] * 3 + ["kept"]
    assert "bits enough for every value" in records[0].reason


def test_a_gate_that_refuses_is_given_more_bytes_and_the_target_is_said_to_be_missed():
    tried = []

    def validator(adapter):
        tried.append(model_size(adapter, torch.float16, "zstd").nbytes)
        return 1.0 if len(tried) == 1 or tried[-1] > 3500 else 0.5

    pipeline = made([Quantizer()], 3000, validator=validator)
    outcome = pipeline.get_pipeline_summary().target
    assert outcome is not None
    assert 3500 < outcome.reached < 4200
    assert "the gate did not allow it: at the target quant (round 3 of 3) kept 50.0%" in outcome.reason


def test_a_target_beyond_the_finest_steps_is_told():
    outcome = made([Quantizer()], 30_000).get_pipeline_summary().target
    assert outcome is not None
    assert outcome.reached < 30_000
    assert "no finer steps" in outcome.reason


def test_a_target_below_what_is_no_weight_is_refused_before_anything_is_compressed():
    with pytest.raises(UserError, match="a target of 20 bytes cannot be met"):
        made([DARECompressor(), Quantizer()], 20)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    class Killed:
        done = 0

        def step_finished(self, record):
            self.done += 1
            if self.done == stop_after:
                raise KeyboardInterrupt

        def __getattr__(self, event):
            return lambda *details: None

    whole = made([DARECompressor(), Quantizer()], 1500, directory=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        made([DARECompressor(), Quantizer()], 1500, directory=tmp_path / "cut", observer=Killed())
    resumed = made([DARECompressor(), Quantizer()], 1500, directory=tmp_path / "cut", resume=True)
    assert whole.model is not None
    assert resumed.model is not None
    assert checksum(resumed.model.module) == checksum(whole.model.module)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_target_that_is_filled_again_before_recovery_is_so_in_a_resumed_run_too(
    tmp_path: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rcc.cascade.bytes.budget.TOLERANCE", 1e-4)  # so that the first filling misses it

    class Heard(Unobserved):
        def __init__(self, last: int = 0) -> None:
            self.steps: list[str] = []
            self.last = last

        def step_finished(self, record):
            self.steps.append(record.step.label)
            if len(self.steps) == self.last:
                raise KeyboardInterrupt

    def run(directory: Path, observer: Heard, resume: bool = False) -> str:
        model = plain()
        stages = [Quantizer(), Recovery(epochs=1, learning_rate=1e-3, warmup=0)]
        pipeline = RCCPipeline(stages, target=Target(1500), directory=directory, observer=observer)
        learned = batches(model)
        pipeline.run(model, lambda adapter: 1.0, learned[:2], training=learned[2:], resume=resume)
        return checksum(model.module)

    heard = Heard()
    wanted = run(tmp_path / "whole", heard)
    assert heard.steps[:2] == ["quant", "quant"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Heard(stop_after))
    assert run(tmp_path / "cut", Heard(), resume=True) == wanted


def test_only_rounding_of_open_bits_fills():
    assert filling([DARECompressor(), Quantizer()]) is not None
    assert filling([DARECompressor(), Quantizer(4)]) is None
    assert filling([DARECompressor(), Quantizer(rounding="nearest")]) is None
    assert filling([DARECompressor()]) is None


@pytest.mark.parametrize("bits", [0.05, 0.3, 0.9])
def test_the_share_kept_takes_the_bits_there_are(bits):
    kept = share_kept(bits)
    where = -kept * math.log2(kept) - (1 - kept) * math.log2(1 - kept)
    assert where + kept * COARSE == pytest.approx(bits)
    assert 0 < share_to_prune_to(bits) < 1
    assert (share_kept(2.5), share_to_prune_to(2.5)) == (1.0, 1.0)


def test_the_best_is_the_least_distance_and_the_fewest_steps_of_equals():
    found = Filling(Quantizer())
    found.weighed = {0: 0.3, 1: 0.1, 2: 0.1, 3: 0.2}
    assert found.best == 1
    assert [found.is_worse(place) for place in (1, 2, 3)] == [False, False, True]
    assert "err by 0.1 with it and by 0.1 without it" in why_left_out(found.weighed, 1)


def test_an_option_that_a_target_makes_idle_is_refused_before_anything_is_measured():
    with pytest.raises(UserError, match="clip=mse has no effect under a target in bytes"):
        made([Quantizer(clip="mse")], 3000, validator=lambda adapter: pytest.fail("measured"))


def test_where_no_round_reaches_the_target_the_one_that_comes_nearest_is_filled_from():
    filling = Filling(Quantizer())
    filling.weighed = {0: 3.1 * UNREACHED, 1: 1.6 * UNREACHED, 2: 1.2 * UNREACHED, 3: 1.4 * UNREACHED}
    assert filling.best == 2
    assert "could not reach" in why_left_out(filling.weighed, 2)
