"""The benchmark of the trainer runs and ends both ways with the same weights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks/trainer.py"


def test_both_ways_end_with_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("trainer_benchmark", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(sys, "argv", ["trainer.py", "--batch", "4", "--rounds", "1"])
    benchmark.main()
    assert "| yes |" in capsys.readouterr().out
