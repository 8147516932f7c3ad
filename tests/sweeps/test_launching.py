"""Trials handed to a launcher of Hydra's: each outcome is told, also of a job that does not come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.rcc_pareto.launching import launched, set_aside
from rcc.cli import main
from rcc.composing.outcomes import Outcome


def came_back(value: Any, status: JobStatus = JobStatus.COMPLETED) -> JobReturn:
    made = JobReturn()
    made.status, made.return_value = status, value
    return made


class Launches:
    """A launcher that notes what it is handed and returns what it was made with."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned
        self.handed: list[Any] = []

    def launch(self, job_overrides: Any, initial_job_idx: int) -> Any:
        self.handed.append((job_overrides, initial_job_idx))
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned


def test_a_job_that_does_not_come_back_is_read_from_its_folder(capsys):
    known, read = Outcome(3, (), Path("3"), {"retention": 1.0, "bytes": 9.0}), Outcome(7, (), Path("7"))
    launcher: Any = Launches([came_back(known), came_back(ValueError("broken pipe"), JobStatus.FAILED)])
    assert launched(launcher, {3: ["seed=0"], 7: ["seed=1"]}, False, lambda number: read) == [known, read]
    assert launcher.handed == [([["seed=0", "hydra.sweep.subdir=3"], ["seed=1", "hydra.sweep.subdir=7"]], 3)]
    assert "rcc-run: a job ended in ValueError: broken pipe\n" in capsys.readouterr().err


def test_a_launcher_that_fails_is_told_and_all_its_jobs_are_read_from_their_folders(capsys):
    launcher: Any = Launches(RuntimeError("a worker was killed"))
    assert launched(launcher, {0: [], 1: []}, False, lambda number: Outcome(number, (), Path()))[1].number == 1
    assert capsys.readouterr().err == "rcc-run: the launcher failed: RuntimeError: a worker was killed\n"
    with pytest.raises(RuntimeError):
        launched(launcher, {0: []}, True, lambda number: Outcome(number, (), Path()))


def test_what_a_job_without_steps_left_is_kept_aside(tmp_path):
    for number in (1, 2):
        (tmp_path / "4").mkdir()
        set_aside(tmp_path / "4")
        assert (tmp_path / f"4.stopped-{number}").is_dir()


def test_a_failed_job_is_a_failed_sweep_under_joblib_too(tmp_path, monkeypatch, capfd):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'rcc[launchers]'")
    monkeypatch.chdir(tmp_path)
    harsh = ("stage.dare.target_sparsity=0.97", "gate.on_failure=continue,abort", "gate.threshold=0.99", "gate.tries=0")
    plain = ("stage=dare", "stage.dare.solver=none", "stage.dare.allocation=uniform", "debug=quick", *harsh)
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s")
    assert main(["-m", *plain, *launcher]) == 1
    out, err = capfd.readouterr()
    assert "1 of 2 jobs failed." in err
    rows = [line.split() for line in out[out.index("asked") :].splitlines() if "gate.on_failure=" in line]
    assert [(row[-1], "failed" in row) for row in rows] == [
        ("gate.on_failure=continue", False),
        ("gate.on_failure=abort", True),
    ]
    assert [json.loads(Path(f"s/{number}/run.json").read_text())["status"] for number in (0, 1)] == [
        "finished",
        "failed",
    ]
