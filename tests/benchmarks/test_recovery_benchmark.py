"""The recovery benchmark runs its arms from its command, each at the bytes that were asked for, and compares them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_every_arm_has_a_row_and_is_compared_with_the_first() -> None:
    arms = ["none", "recover", "gradual-recover"]
    command = [sys.executable, str(ROOT / "benchmarks/recovery.py"), "--ratios", "20", "--seeds", "0", "--arms", *arms]
    small = ["threads=1", "schedule.rounds=1", "data.train=64", "data.selection=40", "data.test=40"]
    short = ["gate.threshold=0.001", "gate.on_chance=continue"]
    printed = subprocess.run(
        [*command, "--", *small, *short],
        check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[2:]]
    assert [row[:3] for row in rows] == [["20", "0", arm] for arm in arms]
    assert rows[0][5].startswith("+0.00")
    assert all("%" not in row[7] for row in rows)
