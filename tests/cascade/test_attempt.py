"""One attempt of a step: its report of a stage that passes, fails, raises or leaves a model that cannot be used."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from toys.models import chain
from toys.records import steps_of
from toys.stages import Break, Erase, Poison

from rcc.artifact.contents import checksum
from rcc.cascade.attempt import attempt_step, measure, measure_dense, refuse_non_finite, step_seed
from rcc.cascade.gate import Gate
from rcc.errors import UserError, WorkError
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage, StageContext, StageReport


def share_left(model: Adapter) -> float:
    weights = [unit.read().dense() for unit in model.units()]
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def attempted(stage: Stage, threshold: float = 0.95):
    model = chain()
    baseline = measure_dense(model, share_left, torch.float16)
    stage = stage.labelled(stage.method)
    before = checksum(model.module)
    return attempt_step(
        2, stage, StageContext(), model, share_left, baseline, Gate(threshold), torch.float16, "none", before
    )


def test_an_attempt_that_passes_has_everything_and_no_problem() -> None:
    attempt, report = attempted(Erase(0.02))
    assert (attempt.number, attempt.strength, attempt.problem) == (2, 0.02, "")
    assert report is not None
    assert attempt.size is not None
    assert attempt.retention == pytest.approx(0.98, abs=1e-3)
    assert attempt.size.nonzeros < attempt.size.stored
    assert attempt.seconds > 0
    assert attempt.peak_bytes > 0


def test_one_that_kept_too_little_has_its_numbers_and_the_problem() -> None:
    attempt, report = attempted(Erase(0.5))
    assert report is not None
    assert attempt.problem == "kept 50.0% of the dense model, less than 95.0%"
    assert attempt.retention == pytest.approx(0.5, abs=1e-3)


def test_one_that_changed_no_bit_says_why_by_the_layers_it_touched() -> None:
    attempt, report = attempted(Erase(0))
    assert report is not None
    assert report.unchanged == "it came to the values that were there, in all 3 layers it touched"
    assert attempt.problem == ""
    assert attempted(Erase(0.02))[1].unchanged == ""


def test_one_that_touched_nothing_says_why_by_the_reasons_it_gave_most_often_first() -> None:
    class Leave(Erase):
        def apply(self, model, context):
            report = StageReport()
            for number, unit in enumerate(model.units()):
                report.skip(unit, "too small" if number else "the first")
            return report

    _, report = attempted(Leave())
    assert report.unchanged == "it touched no layer: too small (2); the first (1)"


def test_one_that_changed_a_single_bit_outside_of_all_layers_changed_the_model() -> None:
    class Flip(Erase):
        def apply(self, model, context):
            bias = model.units()[1].module.bias.detach()
            bias.view(torch.int32)[0] ^= 1
            return StageReport()

    assert attempted(Flip())[1].unchanged == ""


def test_one_that_changed_nothing_does_not_fail_the_gate_for_what_others_did() -> None:
    model = chain()
    dense = measure_dense(model, share_left, torch.float16)
    Erase(0.5).apply(model, StageContext())
    rest = (Gate(0.95), torch.float16, "none", checksum(model.module))
    attempt, report = attempt_step(1, Erase(0).labelled("erase"), StageContext(), model, share_left, dense, *rest)
    assert attempt.retention == pytest.approx(0.5, abs=1e-3)
    assert (attempt.problem, bool(report.unchanged)) == ("", True)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Break(0.2), "stage 'break': RuntimeError: expected (3, 4), found (4, 3)"),
        (Poison(), "stage 'poison' left a NaN or an infinity in layer 2 (48, 64) (sparse)"),
    ],
)
def test_one_that_broke_has_the_problem_and_no_report(stage: Stage, said: str) -> None:
    attempt, report = attempted(stage)
    assert report is None
    assert attempt.problem == said
    assert attempt.measurement is None


def test_what_the_user_got_wrong_is_no_failed_attempt() -> None:
    class Wrong(Erase):
        def apply(self, model, context):
            raise UserError("no base checkpoint")

    with pytest.raises(UserError, match="no base checkpoint"):
        attempted(Wrong(0.1))


def test_a_measurement_is_taken_in_evaluation_mode_without_gradients_and_without_details() -> None:
    model = chain()
    model.module.train()

    def validator(adapter: Adapter) -> Measurement:
        assert not adapter.module.training
        assert torch.is_inference_mode_enabled()
        return Measurement((Metric("a", 1.0),), "a", details={"per_item": [1, 2]})

    assert measure(model, validator).details == {}
    assert measure(model, lambda adapter: 3).main == Metric("score", 3.0)


def test_an_infinity_outside_the_forms_is_found_and_one_in_a_buffer_is_a_mask() -> None:
    model = chain()
    model.module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    refuse_non_finite(model, "nobody left")
    model.module.register_parameter("gain", torch.nn.Parameter(torch.tensor([math.inf])))
    with pytest.raises(WorkError, match=r"stage 'x' left a NaN or an infinity in gain \(1,\)"):
        refuse_non_finite(model, "stage 'x' left")


def test_the_seed_of_an_attempt_depends_on_its_place_alone() -> None:
    one, two = steps_of("dare", "nullu")
    seeds = [step_seed(seed, step, attempt) for seed in (0, 1) for step in (one, two) for attempt in (1, 2)]
    assert len(set(seeds)) == 8
    assert seeds[0] == step_seed(0, one, 1) == int(hashlib.sha256(b"0/1/1").hexdigest()[:12], 16)
