"""The low-rank benchmark runs through on small shapes and writes what it measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_the_low_rank_benchmark_writes_its_tables_and_every_method_is_as_exact_as_the_peer(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/low_rank.py"), "--quick", "--threads", "1", "--repeats", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--output", str(tmp_path)], check=True, capture_output=True, env=environment)
    result = json.loads((tmp_path / "low_rank.json").read_text(encoding="utf-8"))
    assert [title.split(",")[0] for title in result["tables"]] == ["All 146 matrices"] * 2 + ["Whitened"] * 2
    assert sum("72 matrices of the vision tower" in title for title in result["tables"]) == 2
    for rows in result["tables"].values():
        assert all(row["seconds"] > 0 and row["processor"] > 0 for row in rows)
        assert all(row["excess"] < 1e-6 for row in rows)
    errors = result["sparse plus low rank"]
    assert errors["sparse plus low rank, full metric"] < errors["sparse plus low rank, diagonal metric"]
    written = (tmp_path / "low_rank.md").read_text(encoding="utf-8")
    assert all(title in written for title in result["tables"])
