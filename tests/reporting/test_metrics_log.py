"""metrics.jsonl: complete, unique keys, and the same set of numbers however often the run was killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from toys.records import attempt_at, measured, sized

from rcc.cascade.records import StepRecord, TargetOutcome
from rcc.reporting.metrics_log import KEY, MetricsLog, read_metrics


def play(log: MetricsLog, steps, baseline, records, finished: int = 0, until: int | None = None) -> None:
    log.run_started(steps, finished)
    log.baseline_measured(baseline)
    for record in records[finished:until]:
        for attempt in record.attempts:
            log.step_started(record.step, attempt.number, attempt.strength)
            log.attempt_finished(record.step, attempt)
        log.step_finished(record)


def keys(path: Path) -> list[tuple]:
    return [tuple(line[field] for field in KEY) for line in read_metrics(path)]


def values(path: Path, **wanted) -> dict:
    lines = read_metrics(path)
    return {
        line["name"]: (line["value"], line["unit"])
        for line in lines
        if all(line[field] == value for field, value in wanted.items())
    }


def test_every_line_is_one_number_with_a_key_that_is_unique_in_the_run(
    tmp_path, steps, baseline, records, summary, delivery
):
    log = MetricsLog(tmp_path)
    play(log, steps, baseline, records)
    log.run_finished(summary)
    log.delivered(delivery)
    found = keys(log.path)
    assert len(found) == len(set(found))
    for line in read_metrics(log.path):
        assert set(line) - {"not_finite"} == {*KEY, "value", "unit", "time"}
        assert line["value"] is None or isinstance(line["value"], (int, float))


def test_each_attempt_and_each_step_has_its_own_numbers(tmp_path, steps, baseline, records):
    log = MetricsLog(tmp_path)
    play(log, steps, baseline, records)
    first = values(log.path, step=1, attempt=1)
    assert first["strength"] == (0.9, "")
    assert first["retention"] == (0.42, "fraction")
    assert values(log.path, step=1, attempt=2)["strength"] == (0.45, "")
    step = values(log.path, step=1, attempt=None)
    assert step["bytes"] == (900_000, "bytes")
    assert step["nonzeros"] == (450_000, "parameters")
    assert step["seconds"] == (5.0, "s")
    assert step["accuracy"] == (0.9872, "fraction")
    assert step["accuracy.standard_error"] == (0.004, "fraction")
    assert step["accuracy.low"] == (pytest.approx(0.9752), "fraction")
    assert step["accuracy.high"] == (pytest.approx(0.9897), "fraction")
    assert step["facts.sparsity"] == (0.45, "")
    assert step["units.visual_projection.sparsity"] == (0.45, "")
    assert "units.visual_projection.score" not in step
    assert values(log.path, step=2, attempt=None)["kept"] == (0.0, "0 or 1")
    assert values(log.path, step=0, stage="dense")["accuracy"] == (0.9972, "fraction")


def test_a_number_that_is_not_finite_is_null_and_says_what_it_was(tmp_path, steps, baseline, records):
    log = MetricsLog(tmp_path)
    play(log, steps, baseline, records)
    [line] = [line for line in read_metrics(log.path) if line["name"] == "facts.energy"]
    assert line["value"] is None
    assert line["not_finite"] == "nan"
    assert "NaN" not in log.path.read_text()


def test_both_models_and_all_sizes_of_the_delivery_are_logged(tmp_path, steps, delivery):
    log = MetricsLog(tmp_path)
    log.run_started(steps, 0)
    log.delivered(delivery)
    found = values(log.path, stage="artifact")
    assert found["dense.accuracy"] == (0.9972, "fraction")
    assert found["compressed.accuracy"] == (0.9917, "fraction")
    assert found["artifact_bytes"] == (1_000_000, "bytes")
    assert found["dense_float32_bytes"] == (5_050_000, "bytes")


def test_a_resumed_run_ends_with_the_numbers_of_an_uninterrupted_one(tmp_path, steps, baseline, records, summary):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    straight = MetricsLog(whole)
    play(straight, steps, baseline, records)
    straight.run_finished(summary)

    broken = MetricsLog(killed)
    play(broken, steps, baseline, records, until=1)
    broken.attempt_finished(steps[1], attempt_at(0.9))  # killed inside step 2, in the middle of a line
    with broken.path.open("a") as stream:
        stream.write('{"step": 2, "stage": "nullu", "rou')
    resumed = MetricsLog(killed)
    play(resumed, steps, baseline, records, finished=1)
    resumed.run_finished(summary)

    assert sorted(map(str, keys(killed / "metrics.jsonl"))) == sorted(map(str, keys(whole / "metrics.jsonl")))
    assert all(json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines())
    assert values(resumed.path, step=2, attempt=None) == values(straight.path, step=2, attempt=None)


def test_numbers_written_again_are_not_duplicated(tmp_path, steps, baseline, records):
    log = MetricsLog(tmp_path)
    play(log, steps, baseline, records)
    before = log.path.read_text()
    log.baseline_measured(baseline)
    log.step_finished(records[0])
    assert log.path.read_text() == before


def test_names_with_line_separators_stay_on_one_line(tmp_path, steps):
    log = MetricsLog(tmp_path)
    log.run_started(steps, 0)
    odd = StepRecord(steps[0], "kept", (), sized(8), 1.0, measured(1.0), touched={"a\u2028b\nc": {"sparsity": 0.5}})
    log.step_finished(odd)
    assert values(log.path, step=1)["units.a\u2028b\nc.sparsity"] == (0.5, "")


def test_a_missing_log_reads_as_no_numbers(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_steps_that_are_done_again_are_written_anew_and_those_before_them_stay(tmp_path, steps, baseline, records):
    log = MetricsLog(tmp_path)
    play(log, steps, baseline, records)
    once = keys(log.path)
    before = values(log.path, step=records[0].step.index, attempt=None)
    outcome = TargetOutcome(1000, 1100, 0)
    log.round_repeated(steps[1:], outcome)
    assert {key for key in once if key[0] in (None, 0, steps[0].index)} == set(keys(log.path))
    for record in records[1:]:
        log.step_finished(replace(record, retention=0.25))
    assert values(log.path, step=records[0].step.index, attempt=None) == before
    assert values(log.path, step=records[1].step.index, attempt=None)["retention"] == (0.25, "fraction")
    assert len(keys(log.path)) == len(set(keys(log.path)))


def test_a_step_that_changed_nothing_is_unchanged_and_not_kept(tmp_path, steps):
    log = MetricsLog(tmp_path)
    log.step_finished(StepRecord(steps[0], "unchanged", (), sized(8), 1.0, measured(1.0), reason="it touched no layer"))
    found = values(log.path, step=1)
    assert (found["kept"], found["unchanged"]) == ((0.0, "0 or 1"), (1.0, "0 or 1"))
