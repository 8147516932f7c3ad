"""A real search of four trials, killed by SIGKILL and resumed, ends as the one that nothing interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_a_search_that_was_killed_ends_in_the_same_trials_and_bytes(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/kill_sweep.py"), str(tmp_path), "--trials", "4", "--points", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all resumed to the uninterrupted search"
