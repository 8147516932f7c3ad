"""The benchmark of held forms runs from its command and prints a row a form and its verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_every_form_has_a_row_and_the_largest_cost_a_verdict() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/held.py"), "--hidden", "64", "--batch", "2", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert [line.split(" | ")[0] for line in printed.splitlines() if line.endswith("% |")] == [
        "| 90 % zeros",
        "| 90 % zeros, int8 grid",
        "| sparse factors",
    ]
    assert "the limit of 10%" in printed
