"""The memory benchmark watches a whole run and names the part, down to the layer, where its peak is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_every_layer_has_its_peak_and_the_table_names_the_highest(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/memory.py"), "--stage", "dare", "--images", "16"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    folders = ["--model", str(ROOT / "rcc/assets/clip_tiny"), "--output", str(tmp_path)]
    subprocess.run([*command, *folders], check=True, capture_output=True, env=environment)
    result = json.loads((tmp_path / "memory.json").read_text(encoding="utf-8"))
    parts = result["parts"]
    layers = [part["until"] for part in parts if part["part"] == "dare" and part["until"].startswith("layers (")]
    assert len(layers) == len(set(layers)) == 38
    assert [part["part"] for part in parts[:2]] == ["imports", "dense model loaded, calibration batches prepared"]
    assert all(part["peak"] >= part["held_at_end"] > 1e8 for part in parts)
    highest = max(parts, key=lambda part: part["peak"])
    written = (tmp_path / "memory.md").read_text(encoding="utf-8")
    assert f"**{highest['peak'] / 1e9:.2f} GB**, in: {highest['part']}." in written
    assert all(f"| {part['part']} |" in written for part in parts)
    assert not list(tmp_path.glob("tmp*"))
