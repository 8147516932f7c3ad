"""A writer that is killed: what it acknowledged is there. A hundred kills: `python scripts/kill_store.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_acknowledged_is_lost_to_kills_at_any_instant() -> None:
    command = [sys.executable, "scripts/kill_store.py", "--kills", "8", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 kills, " in done.stdout
    assert "after 0 of them something acknowledged was lost" in done.stdout
