"""SIGKILL at every call that changes the disk: the resumed run ends with the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_run.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])},
    )
    assert done.returncode == 0, done.stderr
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(points) > 30
    wrong = [point for point in points if not (point["killed"] and point["resumed"] and point["same"])]
    assert not wrong, f"{wrong}\n{done.stderr}"
    assert not [point for point in points if point["left"]], "a resumed run leaves temporary files behind"
