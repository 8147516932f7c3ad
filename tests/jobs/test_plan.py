"""A plan writes nothing: nowhere, but for what is gone at once from the folder for temporary files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

WATCHED = """
import json, os, sys
written = set()
def heard(event, details):
    if event == "open" and isinstance(details[0], str) and details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.add(os.path.abspath(details[0]))
    elif event in ("os.mkdir", "os.rename"):
        written.add(os.path.abspath(os.fsdecode(details[0])))
sys.addaudithook(heard)
from rcc.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(written)]))
"""
"""Asks the interpreter itself what is written, since permissions mean nothing to a superuser."""


@pytest.fixture
def plan(tmp_path):
    """Plans in an empty folder and returns the output.

    The current folder is asked for by Hydra, which makes it where it is not there; torch makes a folder for its cache,
    and Python tries the one for temporary files.
    """
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir()
    scratch.mkdir()
    places = {"TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch")}
    environment = {**os.environ, **places, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        command = [sys.executable, "-c", WATCHED, "dry_run=true", "stage=dare+quant", *arguments]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=True)
        code, written = json.loads(done.stdout.splitlines()[-1])
        assert code == 0, done.stderr
        assert list(here.iterdir()) == list(scratch.iterdir()) == []
        foreign = ("/dev/", "/proc/", str(tmp_path / "torch"))
        assert [path for path in written if not path.startswith((*foreign, str(scratch))) and path != str(here)] == []
        return done.stdout

    return run


def test_a_plan_writes_nothing_where_it_runs_or_was_to_write(plan):
    assert "Nothing was written" in plan("hydra.run.dir=mine")


def test_the_plans_of_a_sweep_and_of_a_target_write_nothing_either(plan):
    output = plan("-m", "schedule=one_shot,linear", "target_ratio=6")
    assert output.count("Nothing was written") == 2
    assert "Each job's files" not in output
