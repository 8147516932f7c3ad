"""The cascade: baseline first, gate, back-off, rollback of structure and weights, errors named, resume."""

import math
from dataclasses import replace

import pytest
import torch
from toys.stages import Break, Erase, Factor, Noise, Poison

from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError, WorkError
from rcc.layers.modules import FormLinear
from rcc.measurement import Measurement, Metric
from rcc.stages.base import StageReport
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.nullu.projector import NulluProjector
from rcc.stages.quant.quantizer import Quantizer


def weights(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Heard:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.events = []

    def __getattr__(self, event):
        return lambda *details: self.events.append((event, *details))

    def named(self, event):
        return [details for name, *details in self.events if name == event]


class Turn(Erase):
    """Writes each low-rank pair in another basis, as a refit may: nothing is lost, and V changes."""

    method = "turn"
    strength = None

    def apply(self, model, context):
        report = StageReport()
        for unit in self.choose(model)[0]:
            form = unit.read()
            if form.right is not None:
                unit.write(replace(form, left=form.left.flip(1) / 2, right=form.right.flip(0) * 2))
                report.touched[unit.name] = {}
        return report


def test_the_baseline_is_the_dense_model_before_the_first_stage(model, validator):
    pipeline = RCCPipeline([Erase(0.2)])
    pipeline.run(model, validator)
    assert pipeline.history.dense.measurement.main.value == pytest.approx(1.0)
    assert pipeline.history.dense.size.nonzeros == 6 * 16 + 16 * 12 + 12 * 3 + 16 + 12 + 3


def test_a_first_stage_that_destroys_the_model_does_not_pass(model, validator):
    before = weights(model)
    pipeline = RCCPipeline([Erase(0.99)], tries=0)
    pipeline.run(model, validator)
    assert [record.outcome for record in pipeline.history.records] == ["skipped"]
    assert same(weights(model), before)
    assert pipeline.history.records[0].retention == 1.0
    assert "less than 95.0%" in pipeline.history.records[0].attempts[0].problem


def test_a_failed_stage_is_tried_again_softer_until_it_passes(model, validator):
    heard = Heard()
    pipeline = RCCPipeline([Erase(0.9)], tries=20, observer=heard)
    pipeline.run(model, validator)
    record = pipeline.history.records[0]
    strengths = [attempt.strength for attempt in record.attempts]
    assert record.outcome == "kept"
    assert len(strengths) > 1
    assert strengths == sorted(strengths, reverse=True)
    assert all(attempt.problem for attempt in record.attempts[:-1])
    assert not record.attempts[-1].problem
    assert record.retention >= 0.95
    assert [details[1] for details in heard.named("step_started")] == list(range(1, len(strengths) + 1))
    zeros = sum(int((unit.read().sparse == 0).sum()) for unit in model.units())
    assert zeros == sum(facts["zeros"] for facts in record.touched.values())


def test_a_later_round_is_never_softened_below_what_an_earlier_one_reached(model, validator):
    pipeline = RCCPipeline([Erase(0.99)], schedule=Schedule(2), tries=20)
    pipeline.run(model, validator)
    first, second = pipeline.history.records
    assert (first.outcome, second.outcome) == ("kept", "skipped")
    assert len(second.attempts) > 1
    assert all(attempt.strength > first.attempts[-1].strength for attempt in second.attempts)
    assert second.size == first.size


def test_a_failed_stage_is_kept_when_configured_so(model, validator):
    pipeline = RCCPipeline([Erase(0.99)], tries=0, on_failure="continue")
    pipeline.run(model, validator)
    assert pipeline.history.records[0].outcome == "continued"
    assert pipeline.history.records[0].retention < 0.95


def test_without_rollback_a_failed_stage_is_kept_at_once(model, validator):
    pipeline = RCCPipeline([Erase(0.99)], rollback_enabled=False, tries=5)
    pipeline.run(model, validator)
    record = pipeline.history.records[0]
    assert (record.outcome, len(record.attempts)) == ("continued", 1)
    assert not pipeline.rollback_to_checkpoint("initial", model)


def test_a_failed_stage_ends_the_run_when_configured_so(model, validator):
    with pytest.raises(WorkError, match=r"gate\.on_failure"):
        RCCPipeline([Erase(0.99)], tries=0, on_failure="abort").run(model, validator)


def test_rollback_restores_structure_and_weights(model, validator):
    before, inputs = weights(model), torch.randn(5, 6)
    expected = model.module(inputs)
    pipeline = RCCPipeline([Factor(), Erase(0.99, "late")], tries=0)
    pipeline.run(model, validator)
    assert isinstance(model.module[0], FormLinear)
    assert pipeline.rollback_to_checkpoint("initial", model)
    assert type(model.module[0]) is torch.nn.Linear
    assert same(weights(model), before)
    assert torch.equal(model.module(inputs), expected)
    assert pipeline.history.records == []
    assert not pipeline.rollback_to_checkpoint("nobody", model)


def test_a_stage_that_raises_is_named_and_ends_the_run(model, validator):
    with pytest.raises(WorkError, match=r"stage 'break'.*RuntimeError: expected \(3, 4\), found \(4, 3\)"):
        RCCPipeline([Break(0.2)]).run(model, validator)


def test_a_stage_that_raises_is_rolled_back_when_configured_so(model, validator):
    before = weights(model)
    pipeline = RCCPipeline([Break(0.2), Erase(0.1)], on_error="skip")
    pipeline.run(model, validator)
    assert [record.outcome for record in pipeline.history.records] == ["skipped", "kept"]
    assert len(pipeline.history.records[0].attempts) == 1
    assert not same(weights(model), before)


def test_a_nan_is_caught_after_the_stage_with_layer_and_shape(model, validator):
    with pytest.raises(WorkError, match=r"stage 'poison' left a NaN.*layer 2 \(12, 16\) \(sparse\)"):
        RCCPipeline([Poison()]).run(model, validator)


def test_a_dense_model_with_a_nan_is_the_users_input(model, validator):
    with torch.no_grad():
        model.module[2].weight[0, 0] = math.inf
    with pytest.raises(UserError, match=r"dense model holds.*layer 2 \(12, 16\)"):
        RCCPipeline([Erase(0.1)]).run(model, validator)


def test_lower_is_better_metrics_are_gated_in_their_direction(model, points):
    def loss(adapter):
        value = torch.nn.functional.cross_entropy(adapter.module(points[0]), points[1]).item()
        return Measurement((Metric("loss", value, higher_is_better=False),), "loss")

    pipeline = RCCPipeline([Erase(0.99)], tries=0)
    pipeline.run(model, loss)
    assert pipeline.history.records[0].outcome == "skipped"


def test_rounds_apply_the_cascade_again_with_a_larger_share(model, validator):
    pipeline = RCCPipeline([Erase(0.2), Factor()], schedule=Schedule(rounds=2))
    pipeline.run(model, validator)
    assert [record.step.name for record in pipeline.history.records] == [
        "erase (round 1 of 2)", "factor (round 1 of 2)", "erase (round 2 of 2)", "factor (round 2 of 2)",
    ]  # fmt: skip
    assert [record.step.strength for record in pipeline.history.records] == [0.1, None, 0.2, None]


def test_overlap_is_one_where_a_step_left_the_row_space_and_missing_where_there_is_none(model, validator):
    pipeline = RCCPipeline([Erase(0.1), Factor(), Factor()])
    pipeline.run(model, validator)
    first, again = pipeline.history.records[1].overlap, pipeline.history.records[2].overlap
    assert first["mean_overlap"] is None
    assert {layer["reason"] for layer in first["layers"].values()} == {"no low-rank part before the stage"}
    assert again["mean_overlap"] == pytest.approx(1.0, abs=1e-5)
    assert [stage.label for stage in pipeline.stages] == ["erase", "factor", "factor_2"]
    assert pipeline.analyze_null_space_overlap()["max_overlap"] == pytest.approx(1.0, abs=1e-5)


def test_only_a_second_stage_that_chooses_the_same_row_space_is_critical(model, validator):
    pipeline = RCCPipeline([NulluProjector(0.3), Turn(), NulluProjector(0.3)], performance_threshold=0.01)
    pipeline.run(model, validator)
    first, turned, again = (record.overlap for record in pipeline.history.records)
    assert first["critical"] == []
    assert turned["mean_overlap"] == pytest.approx(1.0, abs=1e-5)
    assert turned["critical"] == []
    assert again["critical"] == ["2"]


def test_later_rounds_of_a_stage_are_not_critical(model, validator):
    pipeline = RCCPipeline([Factor()], schedule=Schedule(rounds=2))
    pipeline.run(model, validator)
    assert pipeline.history.records[1].overlap["mean_overlap"] == pytest.approx(1.0, abs=1e-5)
    assert pipeline.analyze_null_space_overlap()["critical"] == []


def test_a_resumed_pipeline_ends_with_the_same_bits(model, validator, trained_state, tmp_path):
    stages = [Noise(0.3), Erase(0.1), Noise(0.2, "more")]
    RCCPipeline(stages, directory=tmp_path / "whole").run(model, validator)
    expected = weights(model)

    model.module.load_state_dict(trained_state)

    class Killed(Heard):
        def step_finished(self, record):
            if record.step.index == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RCCPipeline(stages, directory=tmp_path / "killed", observer=Killed()).run(model, validator)
    model.module.load_state_dict(trained_state)
    heard = Heard()
    pipeline = RCCPipeline(stages, directory=tmp_path / "killed", observer=heard)
    pipeline.run(model, validator, resume=True)
    assert heard.named("run_started")[0][1] == 2
    assert same(weights(model), expected)
    assert len(pipeline.history.records) == 3


def test_state_is_refused_without_resume_and_by_another_plan(model, validator, tmp_path):
    RCCPipeline([Erase(0.1)], directory=tmp_path).run(model, validator)
    with pytest.raises(UserError, match="already holds the state of a run"):
        RCCPipeline([Erase(0.1)], directory=tmp_path).run(model, validator)
    with pytest.raises(UserError, match=r"cannot be resumed.*\n    stage\.erase\.share: recorded 0\.1, asked 0\.2"):
        RCCPipeline([Erase(0.2)], directory=tmp_path).run(model, validator, resume=True)


def test_what_a_run_needs_is_asked_for_before_it_starts(model, validator):
    with pytest.raises(UserError, match="no stages"):
        RCCPipeline().run(model, validator)
    hungry = Erase(0.1)
    hungry.needs_calibration = True
    with pytest.raises(UserError, match="no calibration data for erase"):
        RCCPipeline([hungry]).run(model, validator)
    with pytest.raises(UserError, match="labelled 'erase'"):
        RCCPipeline([Erase(0.1, "erase"), Erase(0.2, "erase")])


def test_a_stage_that_did_without_calibration_data_says_what_it_took(model, validator):
    pipeline = RCCPipeline([DARECompressor(target_sparsity=0.1)], directory=None)
    pipeline.run(model, validator)
    assert (
        "dare had no calibration data and took allocation=uniform, solver=none: give some"
        in pipeline.get_pipeline_summary().suggestions[0]
    )


def test_suggestions_follow_from_the_numbers(model, validator):
    pipeline = RCCPipeline([Erase(0.99)], tries=1)
    pipeline.run(model, validator)
    assert "stage.erase.share" in pipeline.get_pipeline_summary().suggestions[0]
    easy = RCCPipeline([Erase(0.01)])
    easy.run(model, validator)
    assert "5.0 points above the threshold" in easy.get_pipeline_summary().suggestions[0]
    assert "`stage.erase.share`" in easy.get_pipeline_summary().suggestions[0]


def test_a_bare_module_and_a_number_are_enough(model, points):
    def accuracy(adapter):
        return adapter.module(points[0]).argmax(1).eq(points[1]).float().mean().item()

    pipeline = RCCPipeline([Erase(0.1)])
    assert pipeline.run(model.module, accuracy).module is model.module
    assert pipeline.history.dense.measurement.main.name == "score"
    with pytest.raises(UserError, match=r"validator returned str; it must return a rcc\.Measurement"):
        RCCPipeline([Erase(0.1)]).run(model.module, lambda adapter: "good")


def test_the_stage_the_user_gave_knows_what_it_did(model, validator):
    stage = DARECompressor(0.5)
    RCCPipeline([stage], performance_threshold=0.5).run(model, validator)
    assert stage.get_compression_stats()["sparsity"] == pytest.approx(0.5)


def test_the_specifications_names_show_what_the_pipeline_knows(model, validator, tmp_path):
    pipeline = RCCPipeline([Erase(0.1), Factor()], performance_threshold=0.9, directory=tmp_path)
    assert (pipeline.current_stage, pipeline.validation_metrics, pipeline.checkpoints) == (-1, {}, {})
    pipeline.run(model, validator)
    assert (pipeline.performance_threshold, pipeline.rollback_enabled, pipeline.current_stage) == (0.9, True, 1)
    assert list(pipeline.validation_metrics) == ["initial", "erase", "factor"]
    assert list(pipeline.checkpoints) == ["step-000-initial", "step-001-erase", "step-002-factor"]
    assert pipeline.stage_configs["erase"] == {"method": "erase", "strength": 0.1}
    assert pipeline.model is model


def test_a_nan_in_a_buffer_is_caught_too(model, validator):
    class Spoil(Erase):
        def apply(self, model, context):
            model.module.register_buffer("running_mean", torch.tensor([1.0, math.nan]))
            return super().apply(model, context)

    with pytest.raises(WorkError, match=r"a NaN in running_mean \(2,\)"):
        RCCPipeline([Spoil(0.1)]).run(model, validator)


def test_layers_that_did_not_pay_are_counted_and_the_option_named(model, validator):
    pipeline = RCCPipeline([NulluProjector(None, energy_threshold=1.0)])
    pipeline.run(model, validator)
    assert "left 3 of 3 layers as they were" in pipeline.get_pipeline_summary().suggestions[0]
    assert "`stage.nullu.rank_reduction_ratio`" in pipeline.get_pipeline_summary().suggestions[0]


@pytest.mark.parametrize("where", ["norm's bias", "parameter of a layer's own"])
def test_a_nan_outside_the_forms_is_caught_too(model, validator, where):
    class Spoil(Erase):
        def apply(self, model, context):
            if where == "norm's bias":
                model.module.append(torch.nn.LayerNorm(3))
                model.module[-1].bias.data[0] = math.nan
            else:
                model.module[0].register_parameter("gain", torch.nn.Parameter(torch.tensor([math.nan])))
            return super().apply(model, context)

    with pytest.raises(WorkError, match=r"a NaN or an infinity in (5\.bias|0\.gain)"):
        RCCPipeline([Spoil(0.1)]).run(model, validator)


def test_quantisation_ends_every_cascade_and_runs_in_the_last_round(model, validator):
    with pytest.raises(UserError, match=r"'quant' must be the last .* 'dare' after it .* stage=dare\+quant\."):
        RCCPipeline([Quantizer(rounding="nearest"), DARECompressor(0.5)]).run(model, validator)
    pipeline = RCCPipeline([DARECompressor(0.3), Quantizer(rounding="nearest")], schedule=Schedule(rounds=2))
    pipeline.run(model, validator)
    assert [record.step.label for record in pipeline.history.records] == ["dare", "dare", "quant"]
    sizes = [record.size.nbytes for record in pipeline.history.records]
    assert sizes[2] < sizes[1] < sizes[0]


def test_before_a_run_what_needs_a_model_or_a_baseline_is_refused_by_name(model):
    pipeline = RCCPipeline([Erase(0.1)])
    for asking in (
        lambda: pipeline.save_checkpoint("mine"),
        lambda: pipeline.rollback_to_checkpoint("mine"),
        lambda: pipeline.rollback_to_dense(),
    ):
        with pytest.raises(UserError, match="has no model yet"):
            asking()
    with pytest.raises(UserError, match="rollback_to_dense: nothing was run yet"):
        pipeline.rollback_to_dense(model)
    with pytest.raises(UserError, match="has not run yet"):
        pipeline.get_pipeline_summary()
    assert not pipeline.rollback_to_checkpoint("mine", model)
    assert pipeline.analyze_null_space_overlap()["max_overlap"] is None


def test_a_checkpoint_saved_by_hand_is_gone_back_to_before_and_after_a_run(model, validator):
    pipeline, dense = RCCPipeline([Erase(0.2), Factor()]), weights(model)
    path = pipeline.save_checkpoint("mine", model, {"accuracy": 0.5})
    assert list(pipeline.checkpoints.values()) == [path]
    assert pipeline.validation_metrics["mine"].main.value == 0.5
    Erase(0.9).apply(model, None)
    assert pipeline.rollback_to_checkpoint("mine", model)
    assert same(weights(model), dense)
    pipeline.run(model, validator)
    pipeline.save_checkpoint("after")
    assert pipeline.rollback_to_checkpoint("erase", model)
    assert [record.step.label for record in pipeline.history.records] == ["erase"]
    assert pipeline.rollback_to_checkpoint("after", model)
    assert [record.step.label for record in pipeline.history.records] == ["erase", "factor"]
    assert pipeline.rollback_to_checkpoint("mine", model)
    assert same(weights(model), dense)
    assert pipeline.history.records == []
    assert list(pipeline.checkpoints) == ["step-000-initial", "named-001-mine"]


def test_a_checkpoint_may_be_given_as_a_state_dict_of_the_model(model, validator):
    pipeline = RCCPipeline([Erase(0.2)])
    pipeline.run(model, validator)
    now, halved = weights(model), {name: tensor / 2 for name, tensor in weights(model).items()}
    pipeline.save_checkpoint("halved", halved)
    assert same(weights(model), now)
    assert pipeline.rollback_to_checkpoint("halved", model)
    assert same(weights(model), halved)
    with pytest.raises(UserError, match=r"no state dict of Sequential as it is now.*4\.weight"):
        pipeline.save_checkpoint("part", {"0.weight": now["0.weight"]})


def test_of_the_checkpoints_saved_by_hand_five_are_kept_and_of_one_name_the_newest_counts(model):
    pipeline = RCCPipeline([Erase(0.2)])
    for number in range(7):
        model.module[0].bias.data.fill_(float(number))
        pipeline.save_checkpoint("mine" if number % 2 else "other", model)
    assert len(pipeline.checkpoints) == 5
    assert pipeline.rollback_to_checkpoint("mine", model)
    assert model.module[0].bias[0].item() == 5


def test_the_summary_knows_its_seconds(model, validator):
    pipeline = RCCPipeline([Erase(0.2)])
    pipeline.run(model, validator)
    seconds = pipeline.get_pipeline_summary().seconds
    assert 0 < sum(record.seconds for record in pipeline.history.records) <= seconds < 60
    assert pipeline.get_pipeline_summary().seconds == seconds
