"""The benchmark of gradient checkpointing runs from its command, and both of its ways find the same gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_both_ways_have_a_row_and_the_same_gradients() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/activation_checkpointing.py"), "--layers", "2", "--images", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    kept, recomputed = (line.strip("| ").split(" | ") for line in printed.splitlines()[-2:])
    assert (kept[0], recomputed[0]) == ("kept", "recomputed")
    assert kept[3] == recomputed[3]
