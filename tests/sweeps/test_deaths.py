"""A trial that takes its process along ends a bounded number of them, and one that gets further is not given up."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rcc.cli import main
from rcc.sweeps.deaths import deaths, kept_last, problem

DIED = {"finished": None, "kept_ns": 0}
SEARCH = ("-m", "hydra/sweeper=pareto", "n_trials=2", "stage.dare.target_sparsity=interval(0.2,0.9)")
LIST = ("-m", "stage.dare.target_sparsity=0.5,0.6")


def noted(directory: Path, *attempts: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "run.json").write_text(json.dumps({"status": "running", "attempts": attempts}))
    return directory


def kept(directory: Path, name: str) -> int:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path.stat().st_mtime_ns


def test_attempts_that_ended_with_their_process_are_counted_from_the_last_one(tmp_path):
    ended = {"finished": "2026-11-20T10:00:00", "kept_ns": 0}
    assert deaths(noted(tmp_path / "0", DIED, ended, DIED)) == 1
    assert problem(tmp_path / "0") == ""
    assert deaths(noted(tmp_path / "0", ended, DIED, DIED)) == 2
    assert problem(tmp_path / "0").startswith("2 processes one after another died of it")
    assert deaths(noted(tmp_path / "0", DIED, ended)) == 0
    assert deaths(tmp_path / "none") == 0


def test_an_attempt_that_kept_a_step_or_an_epoch_was_not_in_vain(tmp_path):
    trial = noted(tmp_path / "0", DIED, DIED, DIED)
    kept(trial, "state/step-000-initial/state.json")
    assert (kept_last(trial), deaths(trial)) == (0, 3), "the dense model is no progress"
    stamp = kept(trial, "state/step-001-dare/state.json")
    assert (kept_last(trial), deaths(trial)) == (stamp, 0), "the last one got there"
    noted(trial, DIED, {**DIED, "kept_ns": stamp})
    assert deaths(trial) == 1
    assert kept(trial, "state/within-7") == kept_last(trial)
    assert deaths(trial) == 0


def test_folders_that_were_set_aside_count_for_a_job_without_steps(tmp_path):
    noted(tmp_path / "4.stopped-1", DIED)
    assert deaths(noted(tmp_path / "4", DIED)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
@pytest.mark.parametrize("sweep", [SEARCH, LIST], ids=["search", "list"])
def test_the_trial_is_given_up_and_the_others_are_done_until_it_is_asked_for_again(sweep, stand_in, capsys):
    deadly = True

    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        if directory.name == "0" and deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.9, 1000.0

    stand_in.job = job
    for line in ([*sweep, "hydra.sweep.dir=s"], ["resume=s"]):
        child = os.fork()
        if child == 0:
            os._exit(main(line))
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert main(["resume=s"]) == 1
    told = capsys.readouterr()
    assert "1 of 2 jobs failed" in told.err
    assert [path.name for path in Path("s").glob("[01]/run.json")] == ["run.json"] * 2
    deadly = False
    assert main(["resume=s", "retry=true"]) == 0
