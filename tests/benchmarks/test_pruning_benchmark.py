"""The benchmark of pruning runs from its command, checks its own counts, and writes both of its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_a_quick_run_writes_every_figure_and_the_table(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/pruning.py"), "--quick", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--output", str(tmp_path)], check=True, capture_output=True, env=environment)
    result = json.loads((tmp_path / "pruning.json").read_text())
    assert (result["values"], result["matrices"], result["machine"]["threads"]) == (90_112, 3, 1)
    ways = set(result["peak_bytes"])
    assert set(result["seconds"]) == set(result["processor_seconds"]) == ways | {"copy"}
    assert len(ways) == 5
    assert {name: len(values) for name, values in result["seconds"].items() if name.startswith("torch")} == {
        "torch global_unstructured": 1,
        "torch l1_unstructured, per layer": 1,
    }
    assert len(result["seconds"]["copy"]) == sum(len(result["seconds"][name]) for name in ways)
    table = (tmp_path / "pruning.md").read_text()
    assert all(f"| {name} |" in table for name in ways)
