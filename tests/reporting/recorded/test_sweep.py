"""A sweep is what its folder says: its record, and the trials that were begun."""

from __future__ import annotations

import json

import pytest
from filelock import FileLock
from toys.recorded import write_run, write_sweep

from rcc.errors import UserError
from rcc.reporting.page.sweep_view import sweep_view
from rcc.reporting.recorded.sweep import read_sweep


def test_trials_have_their_points_and_results(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "sweep", [(0.9, 100), (0.95, 200)]))
    assert [trial.number for trial in sweep.trials] == [0, 1]
    assert sweep.trials[1].point == {"stage.dare.target_sparsity": "0.9"}
    assert sweep.trials[1].run.result["bytes"] == 200
    assert all(trial.feasible for trial in sweep.trials)
    assert sweep.status == "finished"


def test_constraints_and_targets_make_trials_infeasible(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100), (0.95, 200)], constraints=["bytes<=150"])
    assert [trial.violated for trial in read_sweep(folder).trials] == [(), ("bytes<=150",)]


def test_a_damaged_trial_is_among_them_with_its_reason(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100), (0.95, 200)])
    (folder / "1/run.json").write_text("{")
    trial = read_sweep(folder).trials[1]
    assert trial.status == "damaged"
    assert "cannot be read" in trial.problem


@pytest.mark.parametrize(("asked", "status"), [(2, "finished"), (3, "stopped")])
def test_it_is_finished_when_all_that_was_asked_for_is_done(tmp_path, asked, status):
    assert read_sweep(write_sweep(tmp_path / "sweep", [(0.9, 1), (0.9, 2)], n_trials=asked)).status == status


def test_it_is_live_while_a_trial_is_claimed_and_failed_where_one_is(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100)])
    write_run(folder / "1", status="failed")
    assert read_sweep(folder).status == "failed"
    (folder / ".claims").mkdir()
    with FileLock(folder / ".claims/2"):
        assert read_sweep(folder).status == "live"


def test_the_commands_search_again_and_go_on(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "sweep", [(0.9, 100)]))
    assert sweep.repeat == (
        "rcc-run -m experiment=pareto 'stage.dare.target_sparsity=interval(0.1, 0.9)' hydra/sweeper=pareto n_trials=1"
        """ sampler=tpe 'objectives=["retention:max","bytes:min"]' hydra.sweeper.seed=0"""
    )
    assert sweep.resume == f"rcc-run resume={tmp_path / 'sweep'}"


def test_folders_whose_names_are_no_numbers_are_no_trials(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100)])
    for name in ("0.stopped-1", "01", "x"):
        write_run(folder / name)
    assert [trial.number for trial in read_sweep(folder).trials] == [0]


def test_a_damaged_record_is_refused(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [])
    (folder / "sweep.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(UserError):
        read_sweep(folder)


def test_a_trial_that_was_abandoned_is_done_and_the_rule_is_part_of_the_command(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100)], n_trials=2, early_stopping="front")
    write_run(folder / "1", status="abandoned")
    sweep = read_sweep(folder)
    assert (sweep.status, sweep.trials[1].status, sweep.trials[1].done) == ("finished", "abandoned", False)
    assert " early_stopping=front " in sweep.repeat
    assert sweep_view(sweep).answer.startswith("2 trials, 1 finished, 1 abandoned.")
    assert not [command for command in sweep_view(sweep).commands if "go on" in command.does]
