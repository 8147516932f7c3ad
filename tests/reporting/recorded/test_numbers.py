"""metrics.jsonl is read as numbers, whatever somebody wrote into it."""

from __future__ import annotations

import json

import pytest
from toys.recorded import write_run

from rcc.reporting.recorded.numbers import moment, number_of, read_numbers


def test_numbers_are_found_by_step_attempt_layer_and_artifact(tmp_path):
    found = read_numbers(write_run(tmp_path / "run", layers={"a.0.fc": {"sparsity": 0.25}}))
    assert found.dense["accuracy"] == 0.98
    assert [step.label for step in found.done] == ["dare", "quant"]
    assert [step.kept for step in found.done] == [True, True]
    assert sorted(found.steps[2].attempts) == [1, 2]
    assert found.steps[2].attempts[1]["retention"] == 0.5
    assert found.steps[2].strength == 0.9
    assert found.steps[2].layers == {"a.0.fc": {"sparsity": 0.25}}
    assert found.artifact["dense_float32_bytes"] == 5_000_000
    assert found.units["artifact_bytes"] == "bytes"


def test_layers_are_left_out_where_they_are_not_asked_for(tmp_path):
    run = write_run(tmp_path / "run", layers={"a.0.fc": {"sparsity": 0.25}})
    found = read_numbers(run, layers=False)
    assert found.steps[1].layers == {}
    assert found.steps[1].values["retention"] == 0.99


def test_a_run_that_has_written_nothing_has_no_numbers(tmp_path):
    assert read_numbers(tmp_path).done == []


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1, 2]",
        json.dumps({"name": ["a"], "value": 1, "step": 1}),
        json.dumps({"name": "bytes", "value": "many", "step": 1}),
        json.dumps({"name": "bytes", "value": True, "step": 1}),
        json.dumps({"name": "bytes", "value": None, "step": 1}),
        json.dumps({"name": "bytes", "value": 5, "step": [1]}),
        json.dumps({"name": "bytes", "value": 5, "step": -1}),
        '{"name": "bytes", "value": NaN, "step": 1}',
        '{"name": "bytes", "value": 1' + "0" * 400 + ', "step": 1}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_number_of_ours_is_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + "\n" + json.dumps({"name": "bytes", "value": 7, "step": 2}) + "\n")
    found = read_numbers(tmp_path)
    assert {index: step.values for index, step in found.steps.items() if step.values} == {2: {"bytes": 7.0}}


INFINITE = float("inf")
VALUES = [(3, 3.0), (10**400, None), (INFINITE, None), (-INFINITE, None), (1e308, None), ("3", None), (True, None)]


@pytest.mark.parametrize(("value", "read"), VALUES)
def test_a_number_is_finite(value, read):
    assert number_of(value) == read


@pytest.mark.parametrize("text", [None, 5, "yesterday", "9999-99-99", ""])
def test_what_is_no_time_is_none(text):
    assert moment(text) is None
