"""Suggestions: each follows from a number of the run and names the option to change."""

from __future__ import annotations

from dataclasses import replace

from toys.records import attempt_at, measured, sized, steps_of

from rcc.cascade.gate import Gate
from rcc.cascade.records import StepRecord
from rcc.cascade.suggestions import suggest
from rcc.stages.base import DID_NOT_PAY

STEP = replace(steps_of("dare")[0], option="stage.dare.target_sparsity")
KEPT = StepRecord(STEP, "kept", (attempt_at(0.9),), sized(900_000), 0.96, measured(0.96))


def test_a_run_that_leaves_nothing_to_say_has_none():
    assert suggest([KEPT], Gate()) == ()


def test_a_step_that_changed_nothing_is_to_be_left_out_and_said_why():
    still = replace(KEPT, outcome="unchanged", reason="it touched no layer")
    assert suggest([still], Gate()) == (
        "dare changed nothing (it touched no layer): leave it out of `stage=`, or give it more to do.",
    )


def test_one_whose_layers_did_not_pay_is_told_once_with_what_helps():
    still = replace(KEPT, outcome="unchanged", reason="it touched no layer", facts={DID_NOT_PAY: 3})
    (said,) = suggest([still], Gate())
    assert "left 3 of 3 layers as they were" in said
    assert "`stage.dare.target_sparsity`" in said


def test_a_softened_step_names_the_strength_at_which_it_passed():
    (said,) = suggest([replace(KEPT, attempts=(attempt_at(0.9), attempt_at(0.45, 2)))], Gate())
    assert said.startswith("dare passed only at 0.45 instead of 0.90, after 2 attempts: set `stage.dare.target_")


def test_room_above_the_threshold_names_the_option_and_how_far():
    (said,) = suggest([replace(KEPT, retention=0.995)], Gate(0.95))
    assert "4.5 points above the threshold at the end" in said
    assert "higher `stage.dare.target_sparsity`" in said
