"""SIGKILL at every call that changes the disk: the resumed run ends with the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")


def killed_everywhere(folder, *arguments):
    """What became of a run killed at each of its writes and resumed."""
    done = subprocess.run(
        [sys.executable, "-m", "toys.killed_run", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=1200,  # a machine that is shared takes minutes
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
    )
    assert done.returncode == 0, done.stderr
    points = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [point for point in points if not (point["killed"] and point["resumed"] and point["same"])]
    assert not wrong, f"{wrong}\n{done.stderr}"
    assert not [point for point in points if point["left"]], "a resumed run leaves temporary files behind"
    return points


def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(tmp_path):
    assert len(killed_everywhere(tmp_path)) > 30


def test_a_run_on_its_way_to_a_target_does_too_even_where_its_last_round_is_done_again(tmp_path):
    points = killed_everywhere(tmp_path, "1200")
    assert len(points) > 30
    assert points[0]["repeats"] >= 1
    assert all(point["repeated_alike"] for point in points)


def test_a_run_killed_within_recovery_goes_on_to_the_same_bytes_and_judgements(tmp_path):
    points = killed_everywhere(tmp_path, "recovery", "20")
    assert len(points) == 20
    assert points[0]["repeats"] >= 1
    assert all(point["repeated_alike"] for point in points)
