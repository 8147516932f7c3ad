"""The state of a trial from its folder alone, and claims that end with their process."""

from __future__ import annotations

import json

import pytest
from filelock import FileLock

from rcc.sweeps.trials import Result, State, claim, exclusive, state_of


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"status": "failed"}, "failed"),
        ({"status": "interrupted"}, "stopped"),
        ({"status": "running"}, "stopped"),
        ({}, "stopped"),
        ([], "stopped"),
        ({"status": "finished"}, "finished"),
    ],
)
def test_the_state_is_read_from_run_json(tmp_path, content, status):
    assert state_of(tmp_path) == State("new")
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert state_of(tmp_path) == State(status)


def test_the_numbers_of_a_finished_trial_are_those_that_are_numbers(tmp_path):
    result = {"numbers": {"bytes": 3, "odd": "x"}, "missed": "too large", "target_bytes": 2}
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "result": result}))
    assert state_of(tmp_path) == State("finished", Result({"bytes": 3.0}, "too large", 2.0))


def test_a_run_that_a_process_holds_is_live(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "running"}))
    with FileLock(tmp_path / ".lock"):
        assert state_of(tmp_path).status == "live"
    assert state_of(tmp_path).status == "stopped"


def test_a_trial_is_claimed_once(tmp_path):
    with exclusive(tmp_path):
        held = claim(tmp_path, 3)
        assert held is not None
        assert claim(tmp_path, 3) is None
        held.release()
        assert claim(tmp_path, 3) is not None
