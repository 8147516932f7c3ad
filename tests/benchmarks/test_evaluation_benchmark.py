"""The evaluation benchmark runs through on small shapes, and its table says what it measured against what was asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_every_way_is_timed_and_every_demand_has_a_verdict(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/evaluation.py"), "--quick", "--images", "5", "--repeats", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    folders = ["--model", str(ROOT / "rcc/assets/clip_tiny"), "--output", str(tmp_path)]
    subprocess.run([*command, *folders], check=True, capture_output=True, env=environment)
    result = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert len(result["rows"]) == 7
    assert all(row["seconds"] > 0 and row["processor"] > 0 for row in result["rows"])
    assert (result["retrieval"]["images"], result["retrieval"]["texts"]) == (50, 250)
    assert result["retrieval"]["peak"] >= result["retrieval"]["peak_before"] > 0
    assert all(0 <= share <= 1 for share in result["idle_share"].values())
    written = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert all(f"| {row['way']} |" in written for row in result["rows"])
    assert written.count("reached") + written.count("MISSED") == 5
