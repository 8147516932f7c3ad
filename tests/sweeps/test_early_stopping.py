"""Whether a trial is worth going on with is a function of what trials reported, and of nothing else."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from rcc.errors import UserError
from rcc.sweeps.early_stopping import (
    Course,
    Report,
    check_early_stopping,
    course_of,
    judged_by_front,
    judged_by_pruner,
    learnt_from,
)
from rcc.sweeps.objectives import read_objectives

BOTH = read_objectives(["retention:max", "bytes:min"])
KEPT = read_objectives(["retention:max"])
LEFT = ("dare", "quant")


def done(number, kept, nbytes, expected=1000.0, after_one=None, left=LEFT):
    """A finished trial of two steps."""
    reports = [Report(0, left, 1.0, 2000.0), Report(1, left[1:], kept if after_one is None else after_one, 1500.0)]
    return Course(number, expected, reports, (kept, nbytes))


def begun(kept, expected, step=1, left=LEFT[1:]):
    return Course(9, expected, [Report(step, left, kept, 1500.0)])


FOUR = [done(0, 0.99, 900.0), done(1, 0.95, 800.0, after_one=0.94), done(2, 0.9, 500.0, 500.0), done(3, 0.6, 450.0)]
"""At most 0.01 was gained after a report, and at best 0.45 of the plan's bytes were taken."""


def test_a_trial_is_stopped_where_the_best_that_others_made_of_such_a_report_is_beaten():
    verdict = judged_by_front(begun(0.88, 1200.0), FOUR)
    assert verdict.at_best == (pytest.approx(0.89), pytest.approx(540.0))
    assert verdict.reason == "at best it keeps 89.00% in 540 bytes, and trial 2 keeps 90.00% in 500"
    far = done(4, 0.2, 10.0, expected=100.0, after_one=0.1)
    assert judged_by_front(begun(0.88, 1200.0), [*FOUR, far]) == verdict, "only plans of about its bytes count"
    assert judged_by_front(begun(0.895, 1200.0), FOUR).reason == "", "it may still keep more than any as small"
    assert judged_by_front(begun(0.5, 900.0), FOUR).reason == "", "it may still be the smallest"


def test_a_trial_is_judged_by_its_plan_before_its_first_step():
    others = [done(number, 1.0, 500.0, 600.0) for number in range(4)]
    assert judged_by_front(begun(1.0, 700.0, 0, LEFT), others).reason
    assert not judged_by_front(begun(1.0, 600.0, 0, LEFT), others).reason, "an equal result beats none"


def test_nothing_is_stopped_by_too_few_results_or_by_others_than_its_own_kind():
    assert not judged_by_front(begun(0.1, 5000.0), FOUR[:3]).reason
    assert not judged_by_front(begun(0.1, 5000.0, left=("recover",)), FOUR).reason
    assert not judged_by_front(begun(0.1, math.inf), FOUR).reason
    infeasible = [Course(each.number, each.expected, each.reports) for each in FOUR]
    assert not judged_by_front(begun(0.1, 5000.0), infeasible).reason


def test_a_course_is_read_from_a_study_that_anybody_may_have_written():
    noted = [[0, ["dare"], 1.0, 9.0], "odd", [1, ["dare"], "x", 9.0], [2, "dare", 1.0, 9.0], [3, [], math.nan, 1.0]]
    trial = create_trial(values=[0.9, 5.0], user_attrs={"reports": noted, "expected_bytes": "many"})
    course = course_of(trial, BOTH)
    assert (course.reports, course.expected, course.final) == ([Report(0, ("dare",), 1.0, 9.0)], math.inf, (0.9, 5.0))
    turned = course_of(create_trial(values=[5.0, 0.9]), read_objectives(["bytes:min", "retention:max"]))
    assert turned.final == (0.9, 5.0)


@pytest.mark.parametrize("name", ["median", "asha"])
def test_optunas_rules_say_what_they_say_to_a_study_of_optunas_own(name):
    """Twelve trials of six steps, each asked after every step, here and by `trial.should_prune`."""
    pruner = optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.SuccessiveHalvingPruner(1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    stopped = 0
    for number in range(12):
        theirs = study.ask()
        values = [1 - 0.1 * ((number * 7) % 5) - 0.02 * step for step in range(1, 7)]
        for step, value in enumerate(values, 1):
            theirs.report(value, step)
            trials = study.get_trials()
            now, others = trials[number], trials[:number]
            course = Course(number, 1.0, [Report(step, (), value, 1.0)])
            verdicts = {judged_by_pruner(name, now, course, others, "maximize").reason for _ in range(2)}
            assert len(verdicts) == 1, "asked again it answers the same"
            expected = theirs.should_prune()
            assert bool(verdicts.pop()) == expected
            if expected:
                break
        stopped += expected
        study.tell(theirs, None if expected else values[-1], TrialState.PRUNED if expected else TrialState.COMPLETE)
    assert 0 < stopped < 12


def test_the_dense_model_is_no_step_of_optunas_rules():
    now = create_trial(state=TrialState.RUNNING, intermediate_values={0: 1.0})
    assert not judged_by_pruner("asha", now, Course(0, 1.0, [Report(0, LEFT, 1.0, 1.0)]), [], "maximize").reason


def test_a_sampler_learns_what_an_abandoned_trial_might_have_come_to():
    trial = create_trial(state=TrialState.PRUNED, user_attrs={"at_best": [0.9, 300.0]})
    assert (learnt_from(trial).state, trial.values) == (TrialState.COMPLETE, [0.9, 300.0])
    odd = create_trial(state=TrialState.PRUNED, user_attrs={"at_best": "most"})
    assert learnt_from(odd).state == TrialState.FAIL
    one = create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.5})
    assert learnt_from(one).state == TrialState.PRUNED


@pytest.mark.parametrize(
    ("name", "objectives", "said"),
    [
        ("hyperband", BOTH, "unknown early_stopping 'hyperband'"),
        ("front", KEPT, "early_stopping=front weighs retention against bytes, and the objectives are retention:max"),
        ("median", BOTH, "early_stopping=median compares one objective"),
        ("asha", read_objectives(["latency:min"]), "that every step reports, retention or bytes"),
    ],
)
def test_a_rule_without_effect_is_refused(name, objectives, said):
    with pytest.raises(UserError, match=said):
        check_early_stopping(name, objectives)
    check_early_stopping("none", objectives)
