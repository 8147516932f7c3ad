"""`rcc-run resume=<sweep>`: what was done stays, what was stopped goes on, what failed is tried again when asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys.studies import study_in

from rcc.cli import main
from rcc.errors import UserError, WorkError

SEARCH = (
    *("-m", "hydra/sweeper=pareto", "hydra.sweep.dir=s", "stage=choice(dare,dare+nullu)"),
    *("stage.dare.target_sparsity=interval(0.2,0.9)", "stage.nullu.rank_reduction_ratio=interval(0.1,0.7)"),
)


def compressed(cfg: Any, directory: Path) -> tuple[float, float]:
    sparsity = cfg.stage.dare.target_sparsity
    return 1 - sparsity**2, 1000 * (1 - sparsity)


def stopped_at(count: int, stand_in: Any) -> Any:
    """A job that is interrupted at the `count`-th call."""

    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        if len(stand_in.configs) == count:
            raise KeyboardInterrupt
        return compressed(cfg, directory)

    return job


def told(folder: str) -> list[tuple[int, str, dict[str, Any], list[float]]]:
    return [(trial.number, trial.state.name, trial.params, trial.values) for trial in study_in(folder).trials]


def test_a_stopped_search_goes_on_to_the_trials_of_one_that_was_not(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH[:2], "hydra.sweep.dir=whole", *SEARCH[3:], "n_trials=13"]) == 0
    stand_in.configs.clear()
    stand_in.job = stopped_at(12, stand_in)
    assert main([*SEARCH, "n_trials=13"]) == 130
    assert capsys.readouterr().err == "rcc-run: interrupted. Continue with: rcc-run resume=s\n"
    assert main(["resume=s"]) == 0
    assert told("s") == told("whole")
    assert [cfg.resume for cfg in stand_in.configs[11:]] == [None, "s/11", None], "the half-done one from its own state"
    assert {len(params) for _, _, params, _ in told("s")} == {2, 3}, "what a trial lacks is not asked"
    assert len(json.loads(Path("s/11/run.json").read_text())["attempts"]) == 2


def test_a_result_that_nobody_told_is_read_from_the_folder(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH, "n_trials=3"]) == 0
    whole = told("s")
    lines = Path("s/study.journal").read_text().splitlines(keepends=True)
    created = [number for number, line in enumerate(lines) if '"op_code":4' in line]
    Path("s/study.journal").write_text("".join(lines[: created[2] + 1]) + lines[0][:20])  # killed before it was told
    assert main(["resume=s"]) == 0
    assert (told("s"), len(stand_in.configs)) == (whole, 3)


def test_a_finished_search_is_added_to(stand_in):
    stand_in.job = compressed
    assert main([*SEARCH, "n_trials=2"]) == 0
    assert main(["resume=s", "n_trials=4"]) == 0
    assert main([*SEARCH[:2], "hydra.sweep.dir=whole", *SEARCH[3:], "n_trials=4"]) == 0
    assert told("s") == told("whole")
    assert len(stand_in.configs) == 8


def test_failed_trials_are_tried_again_only_when_asked_under_a_number_of_their_own(stand_in, capsys):
    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        if len(stand_in.configs) == 2:
            raise WorkError("the disk is full")
        return compressed(cfg, directory)

    stand_in.job = job
    assert main([*SEARCH, "n_trials=3"]) == 1
    assert main(["resume=s"]) == 1
    assert len(stand_in.configs) == 3
    assert "1 of 3 jobs failed" in capsys.readouterr().err
    assert main(["resume=s", "retry=true"]) == 0
    trials = study_in("s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert (trials[3].user_attrs["retry_of"], trials[3].params) == (1, trials[1].params)
    assert trials[1].user_attrs["message"] == "the disk is full"


def test_a_list_goes_on_in_the_same_way(stand_in, capsys):
    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        if len(stand_in.configs) == 2:
            raise WorkError("seed 1 blew up")
        if len(stand_in.configs) == 3:
            raise KeyboardInterrupt
        return compressed(cfg, directory)

    stand_in.job = job
    grid = ["-m", "stage=dare,dare+nullu", "seed=0,1", "stage.nullu.rank_reduction_ratio=0.3", "hydra.sweep.dir=s"]
    assert main(grid) == 130
    assert main(["resume=s"]) == 1
    assert [(list(cfg.stage), cfg.seed, cfg.resume) for cfg in stand_in.configs] == [
        (["dare"], 0, None),
        (["dare"], 1, None),
        (["dare", "nullu"], 0, None),
        (["dare", "nullu"], 0, "s/2"),
        (["dare", "nullu"], 1, None),
    ]
    assert stand_in.configs[-1].stage.nullu.rank_reduction_ratio == 0.3
    assert main(["resume=s", "retry=true"]) == 0
    assert (stand_in.configs[-1].seed, stand_in.configs[-1].resume) == (1, "s/1")
    assert main(["resume=s"]) == 0
    assert len(stand_in.configs) == 6
    assert main(grid) == 2
    assert "s already holds a sweep. Continue it with `rcc-run resume=s`" in capsys.readouterr().err


def test_a_folder_that_was_moved_goes_on(stand_in):
    stand_in.job = stopped_at(2, stand_in)
    assert main([*SEARCH, "n_trials=3"]) == 130
    Path("s").rename("elsewhere")
    assert main(["resume=elsewhere"]) == 0
    assert stand_in.configs[2].resume == "elsewhere/1"
    assert [state for _, state, _, _ in told("elsewhere")] == ["COMPLETE"] * 3


def test_another_sweep_than_the_recorded_one_is_refused_with_every_difference(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH, "n_trials=2"]) == 0
    before = {path: path.read_bytes() for path in Path("s").glob("*.j*")}
    for given, said in {
        ("seed=4", "sampler=random"): "seed=4: not recorded",
        ("stage.dare.target_sparsity=interval(0.1,0.9)",): "recorded interval(0.2,0.9), asked interval(0.1,0.9)",
        ("sampler=random",): 'sampler: recorded "tpe", asked "random"',
        ("sampler=cmaes",): "nothing is ever unpickled",
        ("sampler=tpo",): "Did you mean 'tpe'?",
        ("n_trials=1",): "n_trials is 1, and s holds 2 trials that are done",
        ("objectives=[bytes:min]",): 'objectives: recorded ["retention:max", "bytes:min"], asked ["bytes:min"]',
        ("-m",): "cannot be combined with -m",
    }.items():
        assert main(["resume=s", *given]) == 2
        assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("s").glob("*.j*")} == before


def test_settings_that_name_code_are_asked_for_again(stand_in, capsys, monkeypatch):
    code = "logger.local._target_=rcc.reporting.observers.RunObserver"
    assert main(["-m", "seed=0,1", code, "hydra.sweep.dir=s"]) == 0
    assert main(["resume=s"]) == 2
    assert f"say it again: rcc-run resume=s {code}" in capsys.readouterr().err
    assert main(["resume=s", code]) == 0


def test_what_says_nothing_about_results_may_be_another_in_the_trials_that_are_left(stand_in):
    stand_in.job = stopped_at(2, stand_in)
    assert main([*SEARCH, "n_trials=2", "logger=local"]) == 130
    before = Path("s/sweep.json").read_bytes()
    assert main(["resume=s", "logger=wandb", "logger.wandb.tags=[late]"]) == 0
    assert [list(cfg.logger.get("wandb", {}).get("tags", ())) for cfg in stand_in.configs] == [[], [], ["late"]]
    assert Path("s/sweep.json").read_bytes() == before


def test_arguments_that_are_said_again_stand_in_their_recorded_order(stand_in):
    code = "logger.local._target_=rcc.reporting.observers.RunObserver"
    assert main(["-m", code, "stage=dare", "seed=0,1", "hydra.sweep.dir=s"]) == 0
    assert main(["resume=s", code]) == 0


def test_a_database_is_opened_only_when_it_is_named_again(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("RCC_STORAGE_PASSWORD", "none")
    stand_in.job = stopped_at(2, stand_in)
    assert main([*SEARCH, "n_trials=3", "storage=sqlite:///studies.db"]) == 130
    told = capsys.readouterr()
    assert "study: rcc-s-" in told.out
    assert told.err == "rcc-run: interrupted. Continue with: rcc-run resume=s storage=sqlite:///studies.db\n"
    assert main(["resume=s"]) == 2
    assert "say it again: rcc-run resume=s storage=sqlite:///studies.db." in capsys.readouterr().err
    assert main(["resume=s", "storage=sqlite:///others.db"]) == 2
    assert "sqlite:///others.db holds no such study" in capsys.readouterr().err
    Path("s").rename("moved")
    assert main(["resume=moved", "storage=sqlite:///studies.db"]) == 0
    assert len(stand_in.configs) == 4


def test_a_password_reaches_no_file_and_no_message(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("RCC_STORAGE_PASSWORD", "none")
    assert main([*SEARCH, "storage=nosuch://me:s3cret@host/studies"]) == 2
    told = capsys.readouterr()
    assert "the study in nosuch://me@host/studies cannot be used" in told.err
    files = [path.read_text() for path in Path("s").rglob("*") if path.is_file()]
    assert "s3cret" not in "".join([told.out, told.err, *files])


def test_a_violated_constraint_makes_a_trial_infeasible_and_not_failed(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH, "n_trials=4", "objectives=[retention:max]", 'constraints=["bytes<=300"]']) == 0
    trials = study_in("s").trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    for trial in trials:
        nbytes = trial.user_attrs["numbers"]["bytes"]
        assert trial.constraints == {"bytes<=300": pytest.approx(nbytes / 300 - 1)}
    assert any(excess > 0 for trial in trials for excess in trial.constraints.values())
    assert "(not bytes<=300)" in capsys.readouterr().out


def test_an_objective_that_nothing_measures_ends_the_sweep_at_once(stand_in, capsys):
    assert main([*SEARCH, "objectives=[latency:min]"]) == 2
    assert "no trial measures latency: there are retention, bytes." in capsys.readouterr().err
    assert len(stand_in.configs) == 1


def test_points_to_try_first_come_first(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH, "n_trials=2", "first=[{stage:dare,stage.dare.target_sparsity:0.25}]"]) == 0
    assert told("s")[0][2] == {"stage": "dare", "stage.dare.target_sparsity": 0.25}
    assert main([*SEARCH[:2], *SEARCH[3:], "first=[{stage.dare.target_sparsity:2.5}]"]) == 2
    assert "first: stage.dare.target_sparsity=2.5 is not among what is searched" in capsys.readouterr().err


def test_a_plan_among_runs_leaves_no_folder(stand_in):
    assert main(["-m", "dry_run=false", "seed=0,1", "hydra.sweep.dir=s"]) == 0
    stand_in.run = lambda cfg, choices, directory, overrides: None  # type: ignore[method-assign]
    assert main(["-m", "dry_run=true,false", "hydra.sweep.dir=plans"]) == 0
    assert not Path("plans/0").exists()


def test_a_trial_that_always_fails_ends_with_a_summary(stand_in, capsys):
    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        raise UserError("no such data")

    stand_in.job = job
    assert main([*SEARCH, "n_trials=3"]) == 2
    assert "3 of 3 jobs failed" in capsys.readouterr().err
