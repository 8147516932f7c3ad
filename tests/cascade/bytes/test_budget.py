"""A target in bytes: what is due in every round, the strength that meets it, and what a run says where none does."""

import math

import pytest
import torch
from toys.models import CHAIN_BIASES as BIASES
from toys.models import CHAIN_VALUES as VALUES
from toys.models import chain as plain
from toys.models import chain_with_norm as wide
from toys.stages import Cut, Factor, Thin

from rcc.artifact.size import model_size
from rcc.artifact.write import write_artifact
from rcc.cascade.bytes.budget import REPEATS, Budget, Target
from rcc.cascade.bytes.forecast import forecast
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError
from rcc.layers.encoding import encoded_bytes
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.nullu.projector import NulluProjector
from rcc.stages.quant.quantizer import Quantizer


def pipeline(stages, nbytes, entropy="none", rounds=1, **options):
    options = {"performance_threshold": 1e-6, **options}
    schedule = Schedule(rounds, "geometric")
    return RCCPipeline(stages, target=Target(nbytes), storage_entropy=entropy, schedule=schedule, **options)


def ran(stages, nbytes, model=None, validator=lambda adapter: 1.0, **options):
    """The run's pipeline, and its model."""
    made, model = pipeline(stages, nbytes, **options), model or plain()
    made.run(model, validator)
    return made, model


class Watch:
    """Takes down the events that a target brings, and passes over all others."""

    def __init__(self):
        self.repeated, self.strengths = [], []

    def round_repeated(self, steps, outcome):
        self.repeated.append(([step.name for step in steps], outcome))

    def step_started(self, step, attempt, strength):
        self.strengths.append((step.label, strength))

    def __getattr__(self, event):
        return lambda *details: None


@pytest.mark.parametrize("entropy", ["none", "zstd"])
def test_a_forecast_without_later_stages_is_exact(entropy, tmp_path):
    model = wide()
    RCCPipeline([Cut(0.7)], performance_threshold=1e-6).run(model, lambda adapter: 1.0)
    made = forecast(model, (), torch.float16, entropy)
    assert made.matrices + made.rest == model_size(model, torch.float16, entropy).nbytes
    assert made.rest >= BIASES / 2


def test_a_forecast_of_rounding_comes_to_what_rounding_to_nearest_makes_and_touches_nothing():
    model, quant = wide(), Quantizer(5, rounding="nearest")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    names = {unit.name for unit in quant.choose(model)[0]}
    foreseen = forecast(model, [(quant, names)], torch.float16, "zstd")
    none = forecast(model, [(quant, set())], torch.float16, "zstd")
    assert none.matrices == forecast(model, (), torch.float16, "zstd").matrices
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    RCCPipeline([quant], performance_threshold=1e-6).run(model, lambda adapter: 1.0)
    made = forecast(model, (), torch.float16, "zstd")
    assert (foreseen.matrices, foreseen.rest) == (made.matrices, made.rest)
    assert foreseen.contents == made.contents


@pytest.mark.parametrize("entropy", ["none", "zstd"])
@pytest.mark.parametrize("nbytes", [2500, 4000, 7000, 11000])
def test_pruning_comes_out_within_one_per_cent(nbytes, entropy):
    made, model = ran([DARECompressor()], nbytes, entropy=entropy, rounds=3)
    reached = model_size(model, torch.float16, entropy).nbytes
    assert abs(reached - nbytes) <= 0.01 * nbytes
    assert made.get_pipeline_summary().target.reached == reached
    assert made.get_pipeline_summary().target.reason == ""


@pytest.mark.parametrize("nbytes", [3000, 5000])
@pytest.mark.parametrize(
    "stages",
    [
        lambda: [DARECompressor(), Quantizer(6, rounding="nearest")],
        lambda: [DARECompressor(0.3), NulluProjector(energy_threshold=None), Quantizer(6, rounding="nearest")],
        lambda: [NulluProjector(0.3, energy_threshold=None), DARECompressor()],
        lambda: [Cut(), Thin()],
    ],
)
def test_cascades_come_out_within_one_per_cent_or_say_why_ranks_do_not(stages, nbytes):
    made, model = ran(stages(), nbytes, entropy="zstd", rounds=2)
    reached = model_size(model, torch.float16, "zstd").nbytes
    outcome = made.get_pipeline_summary().target
    assert outcome.reached == reached
    if abs(reached - nbytes) > 0.01 * nbytes:
        assert made.stages[-2].method == "nullu"
        assert "come in steps" in outcome.reason or "smaller already" in outcome.reason
        assert abs(reached - nbytes) <= 0.1 * nbytes


def test_what_is_no_weight_is_part_of_the_target():
    seen = []

    def overhead(model, contents, baseline):
        seen.append((set(contents.tensors), baseline.main.value))
        return 1000

    made = RCCPipeline([Cut()], target=Target(5000, overhead), storage_entropy="none", performance_threshold=1e-6)
    model = plain()
    made.run(model, lambda adapter: 0.5)
    assert abs(model_size(model, torch.float16, "none").nbytes - 4000) <= 50
    assert seen[-1] == ({f"{name}.{part}" for name in "024" for part in ("weight", "bias")}, 0.5)


def test_a_last_round_that_misses_is_done_again_and_its_observers_are_told():
    watch = Watch()
    made, _ = ran([Cut(), Thin()], 5000, observer=watch)
    (names, outcome), *_ = watch.repeated
    assert names == ["cut", "thin"]
    assert outcome.nbytes == 5000
    assert outcome.reached < 4950
    assert outcome.repeats == 0
    summary = made.get_pipeline_summary()
    assert summary.target.repeats == len(watch.repeated) >= 1
    assert len(summary.records) == 2
    strengths = [strength for label, strength in watch.strengths if label == "cut"]
    assert strengths == sorted(strengths, reverse=True)
    assert summary.records[0].attempts[-1].strength == strengths[-1]


def test_a_model_that_is_smaller_already_is_not_pressed_and_not_done_again():
    watch = Watch()
    made, _ = ran([Cut()], 10**6, observer=watch)
    assert watch.strengths == [("cut", 0.0)]
    assert watch.repeated == []
    outcome = made.get_pipeline_summary().target
    assert outcome.reached == 2 * VALUES + BIASES
    assert outcome.repeats == 0
    assert "smaller already at the least strength of stage 'cut'" in outcome.reason


def test_a_target_far_out_of_reach_is_refused_before_any_step():
    made, watch = pipeline([Cut()], BIASES + 10), Watch()
    made.observer = watch
    with pytest.raises(UserError) as error:
        made.run(plain(), lambda adapter: 1.0)
    assert watch.strengths == []
    least = BIASES + sum(encoded_bytes(count, count - round(0.99 * count), 2) for count in (3072, 3072, 1536))
    assert f"a target of {BIASES + 10} bytes cannot be met" in str(error.value)
    assert f"about {least:,} bytes, of which {BIASES:,} are files" in str(error.value)
    assert "or end the cascade with quant" in str(error.value)


def test_one_that_turns_out_of_reach_is_missed_with_the_least_that_was_measured():
    least = BIASES + sum(encoded_bytes(count, count - round(0.99 * count), 2) for count in (3072, 3072, 1536))
    made, _ = ran([Cut()], round(0.9 * least))
    outcome = made.get_pipeline_summary().target
    assert outcome.reached > 1.01 * outcome.nbytes
    assert f"the least that stage 'cut' reaches is {outcome.reached:,} bytes, at strength 0.990" in outcome.reason


def test_what_the_gate_softened_or_rolled_back_is_the_reason_for_a_miss():
    zeros = {"share": 0.0}

    def validator(adapter):
        held = [unit.read().dense() for unit in adapter.units()]
        zeros["share"] = sum(int((weight == 0).sum()) for weight in held) / VALUES
        return 1 - 0.4 * zeros["share"]

    made, _ = ran([Cut()], 6000, validator=validator, performance_threshold=0.78, tries=5)
    outcome = made.get_pipeline_summary().target
    assert outcome.reason.startswith("the gate softened cut from strength 0.")
    assert outcome.reached > 6060
    assert outcome.repeats == 0
    made, _ = ran([Cut()], 6000, validator=validator, performance_threshold=0.99, tries=0)
    assert made.get_pipeline_summary().target.reason.startswith("cut was rolled back: kept ")


def test_a_cascade_without_a_strength_is_refused_before_anything_is_measured():
    with pytest.raises(UserError, match="in factor there is neither"):
        ran([Factor()], 5000, validator=lambda adapter: pytest.fail("measured"))


@pytest.mark.parametrize("nbytes", [0, -1, True, 5000.5, math.nan, "5000"])
def test_a_target_is_a_whole_number_of_bytes(nbytes):
    with pytest.raises(UserError, match="must be a whole number above 0"):
        Target(nbytes)


def test_a_run_is_not_resumed_on_its_way_to_another_target(tmp_path):
    ran([Cut()], 5000, directory=tmp_path)
    with pytest.raises(UserError, match=r"target\.nbytes: recorded 5000, asked 6000"):
        pipeline([Cut()], 6000, directory=tmp_path).run(plain(), lambda adapter: 1.0, resume=True)


def test_what_was_learned_survives_json():
    model, target = plain(), Target(5000)
    run = pipeline([Cut(), Thin()], 5000)
    run.run(model, lambda adapter: 1.0)
    measured = run.history.dense.measurement
    other = Budget(target, run.stages, "geometric", torch.float16, "none", measured)
    other.recall(run.history.budget)
    assert other.to_json() == run.history.budget
    assert len(run.history.budget["search"]["trials"]) == run.get_pipeline_summary().target.repeats <= REPEATS


def test_the_artifact_written_is_the_one_foreseen(tmp_path):
    made, model = ran([DARECompressor(), Quantizer(5, rounding="nearest")], 4000, entropy="zstd")
    size = write_artifact(model, tmp_path / "artifact", dtype="float16")
    assert size.weights_bytes - 96 == made.get_pipeline_summary().target.reached


def test_a_plan_solves_for_strengths_from_counts_alone():
    made = pipeline([Cut()], 4000, rounds=2)
    plan = made.plan(plain())
    assert plan.target == 4000
    assert abs(plan.steps[-1].nbytes - 4000) <= 4
    assert plan.steps[0].nbytes == pytest.approx(math.sqrt(4000 * (2 * VALUES + BIASES)), rel=1e-3)
    assert [step.strength for step in made.steps()] == [None, None]
