"""The records of a run: their sums, their way through JSON, and the observer that nobody is."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from toys.records import attempt_at, measured, sized, steps_of

from rcc.cascade.records import Attempt, Baseline, Observer, Size, Step, StepRecord, Unobserved
from rcc.measurement import Measurement, Metric


def test_a_record_costs_what_its_attempts_cost() -> None:
    (step,) = steps_of("dare")
    record = StepRecord(step, "kept", (attempt_at(0.9), attempt_at(0.8, 2)), sized(1), 1.0, measured(1.0))
    assert (record.seconds, record.peak_bytes) == (5.0, 400_000_000)
    assert StepRecord(step, "kept", (), sized(1), 1.0, measured(1.0)).peak_bytes == 0


def test_a_record_tells_what_options_at_auto_came_to() -> None:
    (step,) = steps_of("dare")
    facts = {"auto": {"solver": "none", "allocation": "uniform"}}
    record = StepRecord(step, "kept", (attempt_at(0.9),), sized(1), 1.0, measured(1.0), facts=facts)
    assert record.chosen == "solver=none, allocation=uniform"
    assert replace(record, facts={}).chosen == ""


def test_a_record_comes_back_from_json_with_every_skipped_layer_and_an_attempt_that_broke() -> None:
    (step,) = steps_of("dare")
    record = StepRecord(
        step, "skipped", (Attempt(1, 0.9, 0.5, 10, problem="stage 'dare': broke"),), sized(5), 0.9, measured(0.9),
        {"layer": {"zeros": 3}}, (("lstm.weight_hh_l0", "recurrent"), ("head", "not in roles")), {"unpaid": 1},
    )  # fmt: skip
    assert StepRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    baseline = Baseline(measured(0.9), sized(5), 1.5)
    assert Baseline.from_json(json.loads(json.dumps({
        "measurement": baseline.measurement.to_json(), "size": vars(baseline.size), "seconds": 1.5,
    }))) == baseline  # fmt: skip


def test_a_step_is_named_by_its_round_where_there_are_several() -> None:
    assert [step.name for step in steps_of("dare", rounds=2)] == ["dare (round 1 of 2)", "dare (round 2 of 2)"]
    assert steps_of("dare")[0].name == "dare"


def test_an_observer_takes_up_the_events_it_cares_about_and_passes_over_the_rest() -> None:
    class Steps(Observer):
        heard = 0

        def step_finished(self, record: StepRecord) -> None:
            self.heard += 1

    (step,) = steps_of("dare")
    for observer in (Steps(), Unobserved()):
        observer.run_started([step], 0)
        observer.step_started(step, 1, 0.5)
        observer.step_finished(StepRecord(step, "kept", (), sized(1), 1.0, measured(1.0)))
        assert getattr(observer, "heard", 1) == 1


NAMES = st.text(min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(0, 10**12)
METRICS = st.builds(Metric, NAMES, NUMBERS, NAMES, st.booleans(), st.none() | NUMBERS)
SIZES = st.builds(Size, COUNTS, COUNTS, COUNTS)
FACTS = st.dictionaries(NAMES, st.none() | st.booleans() | NUMBERS | NAMES | st.lists(COUNTS), max_size=3)
MEASUREMENTS = st.lists(METRICS, min_size=1, max_size=3).flatmap(
    lambda found: st.builds(
        Measurement, st.just(tuple(found)), st.just(found[0].name), NAMES, COUNTS, st.just({"k": 1})
    )
)
ATTEMPTS = st.builds(
    Attempt,
    st.integers(1, 9),
    st.none() | NUMBERS,
    NUMBERS,
    COUNTS,
    st.none() | SIZES,
    st.none() | MEASUREMENTS,
    st.none() | NUMBERS,
    NAMES,
)
STEPS = st.builds(Step, COUNTS, COUNTS, COUNTS, NAMES, NAMES, st.none() | NUMBERS)
STEP_RECORDS = st.builds(
    StepRecord,
    STEPS,
    st.sampled_from(["kept", "continued", "skipped", "unchanged"]),
    st.lists(ATTEMPTS, max_size=3).map(tuple),
    SIZES,
    NUMBERS,
    MEASUREMENTS,
    st.dictionaries(NAMES, FACTS, max_size=2),
    st.lists(st.tuples(NAMES, NAMES), max_size=3).map(tuple),
    FACTS,
    FACTS,
)


@given(STEP_RECORDS)
def test_a_step_record_read_back_from_json_is_the_same_record(record: StepRecord):
    assert StepRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
