"""What a run knows of itself, through JSON and back."""

from __future__ import annotations

import json

import pytest
from toys.records import attempt_at, measured, sized, steps_of

from rcc.cascade.gate import Gate
from rcc.cascade.history import History
from rcc.cascade.records import Baseline, StepRecord
from rcc.errors import UserError


def history(finished: int = 1) -> History:
    steps = steps_of("dare", "nullu", "alpha")
    records = [
        StepRecord(step, "kept", (attempt_at(step.strength),), sized(900_000 - step.index), 0.99, measured(0.97))
        for step in steps[:finished]
    ]
    return History(steps, Baseline(measured(0.98), sized(2_500_000)), records)


def test_the_remaining_steps_are_those_without_a_record_in_order() -> None:
    made = history(1)
    assert [step.label for step in made.remaining()] == ["nullu", "alpha"]
    made.add(made.rolled_back(made.remaining()[0], [attempt_at(0.5, problem="kept too little")]), {"target": 5})
    assert [step.label for step in made.remaining()] == ["alpha"]
    assert made.budget == {"target": 5}
    assert History([]).remaining() == []


def test_it_comes_back_from_json_as_it_was() -> None:
    made = history(2)
    made.validated["mine"] = measured(0.5)
    made.budget = {"target": 1000}
    again = History(made.steps)
    again.recall(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert list(again.measurements()) == ["initial", "dare", "nullu", "mine"]


def test_one_that_nothing_was_measured_for_comes_back_too() -> None:
    again = history(2)
    again.recall(json.loads(json.dumps(History([]).to_json())))
    assert (again.baseline, again.records, again.measurements()) == (None, [], {})


def test_the_record_of_another_plan_is_refused_with_both() -> None:
    with pytest.raises(UserError, match=r"dare at 0\.9, nullu at 0\.9, alpha, this run has dare at 0\.9\."):
        History(steps_of("dare")).recall(history().to_json())


def test_a_step_that_was_rolled_back_has_the_numbers_of_the_one_before() -> None:
    attempts = [attempt_at(0.5, problem="kept too little")]
    first, second = (
        history(0).rolled_back(steps_of("dare")[0], attempts),
        history(1).rolled_back(steps_of("dare", "nullu")[1], attempts),
    )
    assert (first.size.nbytes, first.retention, first.outcome) == (2_500_000, 1.0, "skipped")
    assert (second.size.nbytes, second.retention) == (899_999, 0.99)
    assert second.attempts == tuple(attempts)


def test_the_summary_is_that_of_the_last_step_or_of_the_dense_model() -> None:
    made = history(2)
    made.seconds = 12.5
    summary = made.summary(Gate())
    assert (summary.size.nbytes, summary.retention, summary.seconds) == (899_998, 0.99, 12.5)
    assert (history(0).summary(Gate()).size.nbytes, history(0).summary(Gate()).retention) == (2_500_000, 1.0)
    with pytest.raises(UserError, match="has not run yet"):
        History([]).summary(Gate())


@pytest.mark.parametrize("key", ["steps", "baseline", "records", "validated"])
def test_a_checkpoint_that_was_put_together_by_hand_is_refused_and_no_crash(key: str) -> None:
    data = json.loads(json.dumps(history().to_json()))
    for damaged in ({name: data[name] for name in data if name != key}, data | {key: [{"no": 1}]}, data | {key: 3}):
        with pytest.raises(UserError, match="the record of the checkpoint is damaged"):
            History(history().steps).recall(damaged)
