"""run.json: attempts, statuses, environment; readable after a kill at any instant."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rcc.errors import UserError
from rcc.reporting import run_manifest
from rcc.reporting.run_manifest import finish_attempt, git_state, read_run_manifest, start_attempt


def test_the_first_attempt_describes_the_run(tmp_path, steps):
    start_attempt(tmp_path, command=["stage=dare"], seed=3, plan=steps, threads=2)
    manifest = read_run_manifest(tmp_path)
    assert manifest["status"] == "running"
    assert manifest["seed"] == 3
    assert [step["label"] for step in manifest["plan"]] == ["dare", "nullu", "alpha"]
    assert manifest["environment"]["threads"] == 2
    assert manifest["environment"]["versions"]["numpy"].count(".") >= 1
    assert manifest["environment"]["memory_bytes"] > 10**8
    [attempt] = manifest["attempts"]
    assert attempt["command"] == ["stage=dare"]
    assert attempt["status"] == "running"
    assert attempt["finished"] is None


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_the_end_of_an_attempt_is_the_status_of_the_run(tmp_path, status):
    start_attempt(tmp_path, command=[], seed=0)
    finish_attempt(tmp_path, status)
    manifest = read_run_manifest(tmp_path)
    assert manifest["status"] == manifest["attempts"][0]["status"] == status
    assert manifest["attempts"][0]["finished"] >= manifest["attempts"][0]["started"]


def test_a_killed_attempt_becomes_interrupted_when_the_next_one_starts(tmp_path, steps):
    start_attempt(tmp_path, command=["stage=dare"], seed=3, plan=steps)
    start_attempt(tmp_path, command=["resume=latest"], seed=3)
    manifest = read_run_manifest(tmp_path)
    assert [attempt["status"] for attempt in manifest["attempts"]] == ["interrupted", "running"]
    assert len(manifest["plan"]) == 3
    assert "environment" not in manifest["attempts"][1]


def test_a_changed_environment_is_noted_with_the_attempt_that_ran_in_it(tmp_path):
    start_attempt(tmp_path, command=[], seed=0, threads=2)
    start_attempt(tmp_path, command=[], seed=0, threads=8)
    manifest = read_run_manifest(tmp_path)
    assert manifest["environment"]["threads"] == 2
    assert manifest["attempts"][1]["environment"]["threads"] == 8


def test_an_unknown_status_is_refused_with_those_that_exist(tmp_path):
    start_attempt(tmp_path, command=[], seed=0)
    with pytest.raises(UserError, match=r"unknown status 'finnished'\. Did you mean 'finished'"):
        finish_attempt(tmp_path, "finnished")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no run.json"),
        ('{"format": 1, "att', "cannot be read"),
        ("[]", "has format list"),
        ('{"format": 99}', "has format 99; this version reads format 1"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_directory_that_is_not_a_run_is_refused_with_the_reason(tmp_path, text, message):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_run_manifest(tmp_path)


@pytest.mark.parametrize("value", [None, [None], [[1]], 3, True, 10**400])
@pytest.mark.parametrize("key", ["attempts", "status", "environment", "plan", "data_fingerprint", "result"])
def test_a_damaged_record_is_refused_whatever_stands_in_its_place(tmp_path, key, value):
    manifest = start_attempt(tmp_path, command=[], seed=0)
    (tmp_path / "run.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(UserError, match=r"run\.json is damaged: (it lacks|'\w+' is not )"):
        read_run_manifest(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("attempts", []), ("environment", {}), ("environment", {"threads": 0})])
def test_a_record_without_what_every_attempt_writes_is_refused(tmp_path, key, value):
    manifest = start_attempt(tmp_path, command=[], seed=0)
    (tmp_path / "run.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(UserError, match=r"run\.json is damaged: it lacks"):
        read_run_manifest(tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UserError, match=r"cannot write .*run\.json"):
        start_attempt(tmp_path / "file", command=[], seed=0)


def test_the_manifest_names_neither_the_user_nor_their_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "somebody-special")
    text = json.dumps(start_attempt(tmp_path, command=[], seed=0))
    assert "somebody-special" not in text
    assert str(tmp_path) not in text


def git(directory, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_noted_only_for_files_under_version_control(tmp_path):
    code = tmp_path / "code"
    (tmp_path / ".venv").mkdir()
    code.mkdir()
    (code / "a.py").write_text("1\n")
    (tmp_path / ".venv" / "installed.py").write_text("1\n")
    git(tmp_path, "init", "-q")
    assert git_state(code) is None
    git(tmp_path, "add", "code")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert git_state(code) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "changed": False}
    assert git_state(tmp_path / ".venv") is None
    (code / "a.py").write_text("2\n")
    assert git_state(code)["changed"] is True


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_a_processor_without_proc_still_has_a_name(monkeypatch):
    monkeypatch.setattr(run_manifest, "Path", lambda *_: (_ for _ in ()).throw(OSError()))
    assert run_manifest._processor()


def test_a_record_of_a_sparse_terabyte_is_told_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match=r"run\.json"):
        read_run_manifest(tmp_path)
