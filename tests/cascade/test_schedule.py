"""Rounds: the order of steps and the share of the target asked for in each."""

import pytest

from rcc.cascade.schedule import Schedule, order_problems
from rcc.errors import UserError
from rcc.stages.base import Stage


class Knob(Stage):
    method = "knob"
    strength_option = "amount"

    def __init__(self, amount, label):
        self.amount, self.label = amount, label

    strength = property(lambda self: self.amount)

    def at(self, strength):
        return Knob(strength, self.label)

    def plan(self, units, itemsize):
        return list(units)

    def apply(self, model, context):
        raise NotImplementedError


class Ending(Knob):
    method = "ending"
    last = True


def test_one_round_asks_for_the_whole_target_at_once():
    steps = Schedule().steps([Knob(0.8, "a"), Knob(None, "b")])
    assert [(step.index, step.label, step.strength) for step in steps] == [(1, "a", 0.8), (2, "b", None)]
    assert steps[0].name == "a"
    assert steps[0].option == "stage.a.amount"


def test_rounds_repeat_the_whole_cascade_and_end_on_the_target_exactly():
    steps = Schedule(rounds=3, curve="linear").steps([Knob(0.9, "a"), Knob(0.3, "b")])
    assert [step.label for step in steps] == ["a", "b"] * 3
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.strength for step in steps[::2]] == pytest.approx([0.3, 0.6, 0.9])
    assert steps[-1].strength == 0.3
    assert steps[-1].name == "b (round 3 of 3)"


def test_a_stage_that_must_be_last_runs_once_after_the_last_round():
    steps = Schedule(rounds=3).steps([Knob(0.9, "a"), Knob(0.3, "b"), Ending(None, "end")])
    assert [step.label for step in steps] == ["a", "b", "a", "b", "a", "b", "end"]
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert steps[-1].name == "end (round 3 of 3)"
    assert [step.strength for step in steps[:2]] == pytest.approx([0.3, 0.1])


def test_a_stage_that_keeps_the_form_may_follow_any_and_says_itself_how_often_it_runs():
    class Keeping(Knob):
        keeps_form, once = True, False

    knob, end, keeping = Knob(0.9, "a"), Ending(None, "end"), Keeping(None, "keep")
    assert order_problems([knob, end, keeping]) == order_problems([knob, keeping, end]) == []
    (problem,) = order_problems([end, keeping, knob])
    assert problem.endswith("'a' after it would change the values it leaves. Take stage=knob+ending+knob.")
    steps = Schedule(rounds=2).steps([knob, end, keeping])
    assert [step.label for step in steps] == ["a", "keep", "a", "end", "keep"]


def test_a_stage_that_must_be_last_and_is_not_is_named_with_the_order_to_take():
    one, end, two = Knob(0.9, "a"), Ending(None, "end"), Knob(0.3, "b")
    assert order_problems([one, two, end]) == order_problems([end]) == order_problems([]) == []
    assert order_problems([one, end, two]) == [
        "stage 'end' must be the last of the cascade: 'b' after it would change the values it leaves. Take"
        " stage=knob+knob+ending."
    ]
    (problem,) = order_problems([end, Ending(None, "end_2")])
    assert problem.startswith("stage 'end' must be the last")
    assert problem.endswith("Take stage=ending.")


@pytest.mark.parametrize("curve", ["linear", "exponential", "cosine", "polynomial", "cubic_late"])
def test_every_curve_rises_to_exactly_the_target(curve):
    strengths = [step.strength for step in Schedule(7, curve).steps([Knob(0.83, "a")])]
    assert strengths == sorted(strengths)
    assert strengths[-1] == 0.83
    assert strengths[0] > 0


def test_the_geometric_curve_keeps_the_same_share_of_what_was_left_in_every_round():
    strengths = [step.strength for step in Schedule(4, "geometric").steps([Knob(0.9375, "a")])]
    assert strengths == pytest.approx([0.5, 0.75, 0.875, 0.9375])
    assert strengths[-1] == 0.9375
    assert [step.strength for step in Schedule(3, "geometric").steps([Knob(0.0, "a")])] == [0, 0, 0]


def test_a_stage_whose_strength_is_solved_for_has_none_in_the_plan_and_no_option_to_set():
    stages = [Knob(0.9, "a"), Knob(0.3, "b")]
    steps = Schedule(rounds=2, curve="linear").steps(stages, solved=stages[1:2])
    assert [step.strength for step in steps] == [0.45, None, 0.9, None]
    assert [step.option for step in steps] == ["stage.a.amount", "", "stage.a.amount", ""]


def test_wrong_rounds_and_curves_are_refused_together():
    with pytest.raises(UserError) as error:
        Schedule(rounds=0, curve="cosin")
    assert len(error.value.problems) == 2
    assert "Did you mean 'cosine'?" in str(error.value)


def test_a_number_of_rounds_that_no_plan_can_list_is_refused():
    with pytest.raises(UserError, match="rounds is 1000000000; it must be a whole number from 1 to 1000"):
        Schedule(rounds=10**9)
