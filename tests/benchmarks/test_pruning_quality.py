"""The benchmark of what pruning leaves prints a row for each way, with distances and accuracies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_rows_have_a_distance_and_an_accuracy_for_every_sparsity_and_number_of_rounds() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/pruning_quality.py"), "--only", "magnitude", "--sparsity", "0"]
    command += ["--sparsity", "0.7", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    row = done.stdout.splitlines()[-1]
    cells = [tuple(map(float, cell)) for cell in re.findall(r"([\d.]+) \(([\d.]+)\)", row)]
    assert row.startswith("| magnitude |")
    assert len(cells) == 2
    assert cells[0][0] == 0
    assert 0 < cells[1][0] < 2
    assert cells[0][1] > cells[1][1] > 10
