"""Records survive JSON: state, metrics and reports are read back on resume."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rcc.cascade.records import Attempt, Size, Step, StepRecord
from rcc.measurement import Measurement, Metric

names = st.text(min_size=1, max_size=12)
numbers = st.floats(allow_nan=False)
counts = st.integers(0, 10**12)
metrics = st.builds(Metric, names, numbers, names, st.booleans(), st.none() | numbers)
sizes = st.builds(Size, counts, counts, counts)
facts = st.dictionaries(names, st.none() | st.booleans() | numbers | names | st.lists(counts), max_size=3)
measurements = st.lists(metrics, min_size=1, max_size=3).flatmap(
    lambda found: st.builds(
        Measurement, st.just(tuple(found)), st.just(found[0].name), names, counts, st.just({"k": 1})
    )
)
attempts = st.builds(
    Attempt,
    st.integers(1, 9),
    st.none() | numbers,
    numbers,
    counts,
    st.none() | sizes,
    st.none() | measurements,
    st.none() | numbers,
    names,
)
steps = st.builds(Step, counts, counts, counts, names, names, st.none() | numbers)
step_records = st.builds(
    StepRecord,
    steps,
    st.sampled_from(["kept", "continued", "skipped"]),
    st.lists(attempts, max_size=3).map(tuple),
    sizes,
    numbers,
    measurements,
    st.dictionaries(names, facts, max_size=2),
    st.lists(st.tuples(names, names), max_size=3).map(tuple),
    facts,
    facts,
)


@given(step_records)
def test_a_step_record_read_back_from_json_is_the_same_record(record: StepRecord):
    assert StepRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_times_add_up_and_the_peak_is_the_largest_of_the_attempts(records):
    backed_off, broken, _ = records
    assert backed_off.seconds == 5.0
    assert broken.peak_bytes == 500_000_000
    assert StepRecord(backed_off.step, "skipped", (), backed_off.size, 1.0, backed_off.measurement).peak_bytes == 0
