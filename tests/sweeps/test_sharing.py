"""`workers=N`: processes that resume one sweep beside each other, what they are told, and what is told of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from toys.studies import study_in

from hydra_plugins.rcc_pareto import sharing
from hydra_plugins.rcc_pareto.sharing import share, words
from rcc.cli import main
from rcc.composing.outcomes import Outcome
from rcc.sweeps.record import SEARCH, SweepRecord

RECORD = SweepRecord(
    SEARCH,
    ("model.target=mine:Net", "debug=quick", "logger=wandb"),
    ("seed=1,2",),
    storage="postgresql://me@host/studies",
)


def test_a_worker_is_told_what_no_folder_decides_and_nothing_that_it_finds_there():
    hydras = [
        *("hydra/sweeper=pareto", "hydra.sweep.dir=s", "hydra.sweeper.workers=2", "hydra.mode=MULTIRUN"),
        *('hydra.sweeper.storage="postgresql://me@host/studies"', "hydra.sweeper.retry=true"),
    ]
    line = words(Path("s"), RECORD, RECORD.fixed, hydras)
    assert line[:4] == [sys.executable, "-m", "rcc.cli", "resume=s"]
    assert line[4:] == ["model.target=mine:Net", "logger=wandb", *hydras[-2:]]
    assert words(Path("s"), RECORD, (), [])[4:] == ["model.target=mine:Net", "storage=postgresql://me@host/studies"]


def test_each_trial_is_told_once_and_a_worker_that_dies_is_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.01)
    found = [Outcome(0, (), tmp_path, {"retention": 1.0, "bytes": 5.0})]
    later = [
        Outcome(1, (), tmp_path, {"retention": 0.981, "bytes": 212345.0}, missed="too large"),
        Outcome(2, (), tmp_path, error="no such data", exit_code=2),
        Outcome(3, (), tmp_path, done=False),
    ]

    def outcomes() -> list[Outcome]:
        now = list(found)
        found[1:] = later
        return now

    code = "import os, signal, time; time.sleep(0.2); os.kill(os.getpid(), signal.SIGKILL)"
    share([sys.executable, "-c", code], 1, tmp_path, 4, outcomes)
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == [
        "[2/4] trial 1: retention 98.10%, 212,345 bytes, target missed",
        "[3/4] trial 2: failed: no such data",
    ]
    assert (
        err == f"rcc-run: a worker died of SIGKILL; another takes up its trial. Its output: {tmp_path}/workers/1.log\n"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("workers=0",), "workers is 0"),
        (("workers=2", "dry_run=true"), "workers=2 has no effect: a plan runs nothing. Leave it out."),
    ],
)
def test_workers_that_cannot_be_are_refused(stand_in, capsys, given, said):
    assert main(["-m", "seed=0,1", "hydra.sweep.dir=s", *given]) == 2
    assert said in capsys.readouterr().err


def test_two_workers_share_a_search_on_a_journal_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    search = ("-m", "hydra/sweeper=pareto", "debug=quick", "stage=dare", "stage.dare.solver=none")
    space = ("stage.dare.allocation=uniform", "stage.dare.target_sparsity=interval(0.2,0.9)", "hydra.sweep.dir=s")
    assert main([*search, *space, "n_trials=3", "workers=2"]) == 0
    trials = study_in("s").trials
    assert [(trial.number, trial.state.name) for trial in trials] == [(n, "COMPLETE") for n in range(3)]
    assert len({trial.params["stage.dare.target_sparsity"] for trial in trials}) == 3
    assert sorted(path.name for path in Path("s").iterdir() if path.name.isdecimal()) == ["0", "1", "2"]
    out = capfd.readouterr().out
    assert all(f"trial {number}: retention" in out for number in range(3))
    logs = "".join(path.read_text() for path in Path("s/workers").iterdir())
    assert [logs.count(f"== job {number}:") for number in range(3)] == [1, 1, 1], "each trial is one worker's"
