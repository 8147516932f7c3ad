"""A run is what its files say, whoever wrote them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from filelock import FileLock
from toys.recorded import START, write_run

from rcc.errors import UserError
from rcc.reporting.recorded.run import end_of, read_run


def test_a_finished_run_is_read_with_its_command_plan_and_result(tmp_path):
    run = read_run(write_run(tmp_path / "run", "stage=dare+quant", "data=cifar10", "seed=0"))
    assert (run.status, run.plan, run.primary) == ("finished", ("dare", "quant"), "accuracy")
    assert run.result == {"retention": 0.99, "bytes": 200_000}
    assert run.name == "dare → quant on clip_tiny, cifar10"
    assert run.repeat == "rcc-run stage=dare+quant data=cifar10 seed=0"
    assert run.resume == ""
    assert run.seconds == 30.0


def test_a_run_that_says_it_runs_is_live_only_while_its_lock_is_held(tmp_path):
    directory = write_run(tmp_path / "run", status="running")
    assert read_run(directory).status == "stopped"
    with FileLock(directory / ".lock"):
        assert read_run(directory).status == "live"


def test_reading_leaves_nothing_behind(tmp_path):
    directory = write_run(tmp_path / "run", status="running")
    (directory / ".lock").unlink()
    before = sorted(directory.iterdir())
    read_run(directory)
    assert sorted(directory.iterdir()) == before


def test_an_unfinished_run_has_the_command_that_goes_on_with_it(tmp_path):
    run = read_run(write_run(tmp_path / "run", "model.target=mine:Net", "seed=1", status="failed"))
    assert run.resume == f"rcc-run resume={tmp_path / 'run'} model.target=mine:Net"
    assert run.names_code


def test_another_program_is_never_repeated(tmp_path):
    directory = write_run(tmp_path / "run")
    content = json.loads((directory / "run.json").read_text())
    content["attempts"][0]["command"] = ["rm", "-rf", "x=y"]
    (directory / "run.json").write_text(json.dumps(content))
    assert read_run(directory).repeat == ""


def test_a_killed_attempt_ended_when_it_last_wrote(tmp_path):
    run = read_run(write_run(tmp_path / "run", status="running"))
    assert end_of(run, run.attempts[0]) == START + timedelta(seconds=30)


def test_an_artifact_that_cannot_be_read_is_told_and_the_run_is_read(tmp_path):
    directory = write_run(tmp_path / "run")
    (directory / "artifact").mkdir()
    (directory / "artifact/manifest.json").write_text("{}")
    run = read_run(directory)
    assert run.artifact is None
    assert "manifest.json is not the manifest of an artifact" in run.problems[0]
    assert run.result["bytes"] == 200_000


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 9}', "[" * 100_000])
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError):
        read_run(tmp_path)


def test_values_of_other_types_are_left_out(tmp_path):
    directory = write_run(tmp_path / "run")
    content = json.loads((directory / "run.json").read_text())
    content |= {"plan": [{"label": None}, {"label": "dare"}], "result": {"numbers": {"bytes": "x", "retention": 1}}}
    content["attempts"][0] |= {"started": 17, "command": "rcc-run"}
    (directory / "run.json").write_text(json.dumps(content))
    run = read_run(directory)
    assert (run.plan, run.result, run.attempts, run.words) == (("dare",), {"retention": 1.0}, (), ())
