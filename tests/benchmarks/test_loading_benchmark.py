"""The benchmark of loading: a worker loads with the checkout that it was given."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from rcc.artifact.write import write_artifact
from rcc.models.transformers.clip import CLIPWrapper

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_a_worker_reports_the_seconds_of_each_load(clip: CLIPWrapper, tmp_path: Path) -> None:
    write_artifact(clip, tmp_path / "artifact")
    worker = runpy.run_path(str(ROOT / "benchmarks/loading.py"))["Worker"](ROOT)
    try:
        assert all(0 < worker.seconds(tmp_path / "artifact") < 60 for _ in range(2))
    finally:
        worker.close()
