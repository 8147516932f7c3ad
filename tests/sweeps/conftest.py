"""A stand-in for the run of a job, which leaves what a run leaves, so that sweeps are tested free of torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import OmegaConf

from rcc.composing.outcomes import Objective
from rcc.errors import RccError


class StandIn(ModuleType):
    """In place of `rcc.run`: notes each job, then does `job`, and writes how it ended to run.json."""

    def __init__(self) -> None:
        super().__init__("rcc.run")
        self.configs: list[Any] = []
        self.job: Callable[[Any, Path], Objective] = lambda cfg, directory: (1.0, 1000.0)

    def problems(self, cfg: Any, choices: Any) -> list[str]:
        return []

    def report_sweep(self, folder: Path) -> None:
        return None

    def run(self, cfg: Any, choices: Any, directory: Path, overrides: Any) -> Objective:
        self.configs.append(cfg)
        record, hidden = directory / "run.json", directory / ".hydra"
        hidden.mkdir(exist_ok=True)
        if not record.exists():
            OmegaConf.save(cfg, hidden / "config.yaml", resolve=True)
            OmegaConf.save(OmegaConf.create(list(overrides)), hidden / "overrides.yaml")
        attempts = len(json.loads(record.read_text())["attempts"]) if record.exists() else 0
        content: dict[str, Any] = {"status": "running", "attempts": [{}] * (attempts + 1)}
        record.write_text(json.dumps(content))
        try:
            value = self.job(cfg, directory)
        except RccError:
            record.write_text(json.dumps(content | {"status": "failed"}))
            raise
        if reason := getattr(value, "abandoned", ""):
            record.write_text(json.dumps(content | {"status": "abandoned", "abandoned": reason}))
            return value
        result = {"numbers": {"retention": value[0], "bytes": value[1]}, "missed": "", "target_bytes": None}
        record.write_text(json.dumps(content | {"status": "finished", "result": result}))
        return value


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "rcc.run", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return module
