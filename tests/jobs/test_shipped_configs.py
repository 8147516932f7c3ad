"""Every config that ships is run, and every command of the README."""

import json
import re
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from toys.studies import study_in

from rcc.composing.composition import composer
from rcc.shipped import choices, config_dir

ROOT = Path(__file__).parents[2]
QUICK = ("debug=quick", "threads=1")
CONF = config_dir()


@pytest.mark.parametrize("schedule", choices(CONF, "schedule"))
def test_every_schedule_runs(rcc_run, small_clip, schedule):
    code, _, err = rcc_run(
        *QUICK, *small_clip, "stage=dare", f"schedule={schedule}", "hydra.run.dir=run", "schedule.rounds=1"
    )
    assert code == 0, err


@pytest.mark.parametrize("stage", choices(CONF, "stage"))
def test_every_stage_runs_alone(rcc_run, small_clip, stage):
    code, _, err = rcc_run(*QUICK, *small_clip, f"stage={stage}", "hydra.run.dir=run")
    assert code == 0, err


def test_stages_after_quant_are_refused_by_name_before_anything_runs(rcc_run, tmp_path):
    code, _, err = rcc_run(*QUICK, "stage=quant+dare+alpha", "hydra.run.dir=run")
    assert code == 2
    assert "stage 'quant' must be the last of the cascade" in err
    assert "stage=dare+alpha+quant" in err
    assert not (tmp_path / "run").exists()


def test_nullu_in_several_rounds_ends_with_a_report(rcc_run, tmp_path, small_clip):
    """Ranks change from round to round, so that some overlaps are undefined."""
    code, _, err = rcc_run(*QUICK, *small_clip, "stage=nullu+dare", "schedule.rounds=3", "hydra.run.dir=run")
    assert code == 0, err
    assert "## Overlap" in (tmp_path / "run/report.md").read_text()


def test_the_specifications_recipe_runs_as_it_is_written(rcc_run, tmp_path):
    code, _, err = rcc_run(
        "experiment=specification", "threads=1", "stage.alpha.num_epochs=1", "hydra.run.dir=run",
        "data.selection=40", "data.test=40", "data.calibration=20",
    )  # fmt: skip
    assert code == 0, err
    plan = json.loads((tmp_path / "run/run.json").read_text())["plan"]
    assert [(step["label"], step["rounds"]) for step in plan] == [("dare", 1), ("nullu", 1), ("alpha", 1)]


def test_the_order_experiment_runs_both_orders(rcc_run, tmp_path, small_clip):
    code, out, err = rcc_run("-m", "experiment=order", *QUICK, *small_clip, "hydra.sweep.dir=sweep")
    assert code == 0, err
    assert "stage=dare+nullu" in out
    assert (tmp_path / "sweep/1/artifact/manifest.json").is_file()


def test_the_quick_experiment_is_one_step(rcc_run, tmp_path, small_clip):
    code, _, err = rcc_run("experiment=quick", *QUICK, *small_clip, "hydra.run.dir=run")
    assert code == 0, err
    plan = json.loads((tmp_path / "run/run.json").read_text())["plan"]
    assert [(step["label"], step["rounds"]) for step in plan] == [("quant", 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_experiment_is_refused_in_words_where_none_is_and_runs_where_it_is_told_to(
    rcc_run, tmp_path, small_clip
):
    code, _, err = rcc_run("experiment=gpu", "hydra.run.dir=run")
    assert (code, err) == (
        2,
        "rcc-run: device: 'cuda' was asked for and this machine has only cpu; device=auto takes the best.\n",
    )
    assert not (tmp_path / "run").exists()
    fewer = ("trainer.epochs=1", "trainer.batch_size=null", "trainer.precision=float32", "target_ratio=null")
    code, _, err = rcc_run("experiment=gpu", "device=auto", *QUICK, *small_clip, *fewer, "hydra.run.dir=run")
    assert code == 0, err
    plan = json.loads((tmp_path / "run/run.json").read_text())["plan"]
    assert [step["label"] for step in plan] == ["dare", "quant", "recover"]


def test_the_ladder_is_a_run_a_rung_each_in_one_file(rcc_run, tmp_path, small_clip):
    code, _, err = rcc_run(
        "-m", "experiment=budget_ladder", *QUICK, *small_clip, "target_ratio=4,5", "trainer=none",
        "stage=quant", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert code in (0, 3), err
    assert [len(list((tmp_path / f"sweep/{number}").glob("artifact.rcc"))) for number in (0, 1)] == [1, 1]


def test_every_stage_has_a_space_of_options_that_it_has() -> None:
    assert choices(CONF, "hydra/space") == choices(CONF, "stage")
    with composer() as configs:
        for stage in choices(CONF, "stage"):
            taken = configs.compose([f"stage={stage}"]).stage[stage]
            space = OmegaConf.load(CONF / f"hydra/space/{stage}.yaml")
            assert space, stage
            for option in space:
                place, _, name = str(option).rpartition(".")
                assert (place, name in taken) == (f"stage.{stage}", True)


def test_a_plan_of_a_search_is_refused_with_what_to_plan(rcc_run, tmp_path):
    code, _, err = rcc_run("-m", "experiment=pareto", "dry_run=true", "hydra.sweep.dir=sweep")
    assert code == 2
    assert "dry_run=true plans one run, and a search chooses each by the results of those before it" in err
    assert not (tmp_path / "sweep").exists()


def test_the_sweep_searches_two_objectives_in_a_study_of_its_own(rcc_run, tmp_path, small_clip):
    code, out, err = rcc_run(
        "-m", "experiment=pareto", *QUICK, *small_clip, "hydra.sweeper.n_trials=2",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert code == 0, err
    assert "on the Pareto front" in out
    study = study_in(tmp_path / "sweep")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    trials = study.get_trials()
    assert len(trials) == 2
    for number, trial in enumerate(trials):
        files = (tmp_path / f"sweep/{number}/artifact").iterdir()
        assert trial.values[1] == sum(path.stat().st_size for path in files)


def test_training_leaves_a_checkpoint_that_compresses(rcc_run, tmp_path):
    words = ("job=train", "trainer.epochs=1", "data.train=64", "threads=1")
    code, out, err = rcc_run(*words, "hydra.run.dir=trained")
    assert code == 0, err
    assert "rcc-run model=clip model.path=trained/checkpoint" in out
    record = json.loads((tmp_path / "trained/checkpoint/TRAINING.json").read_text())
    assert record["command"] == f"rcc-run {' '.join(words)}"
    code, _, err = rcc_run(
        *QUICK, "stage=dare", "stage.dare.solver=none", "model=clip", "model.path=trained/checkpoint",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert code == 0, err


def test_a_wandb_run_is_logged_offline_and_finished(rcc_run, tmp_path, monkeypatch, small_clip):
    pytest.importorskip("wandb")
    import wandb

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    code, _, err = rcc_run(
        *QUICK, *small_clip, "stage=dare", "logger=wandb+csv", "logger.wandb.mode=offline", "hydra.run.dir=run"
    )
    assert code == 0, err
    assert wandb.run is None
    assert "artifact,,,artifact_bytes" in (tmp_path / "run/metrics.csv").read_text()
    for _ in range(200):  # W&B's own process writes the file a moment after the run is finished
        if list((tmp_path / "run").rglob("*.wandb")):
            return
        time.sleep(0.1)
    pytest.fail("W&B left no offline record")


def test_evaluating_without_an_artifact_measures_the_dense_model(rcc_run, tmp_path):
    code, out, err = rcc_run("job=evaluate", "threads=1", "hydra.run.dir=run")
    assert code == 0, err
    (model,) = json.loads((tmp_path / "run/evaluation.json").read_text())["models"]
    metrics = model["metrics"]
    assert (model["name"], model["kind"]) == ("dense", "dense")
    assert metrics[0]["name"] == "accuracy"
    assert metrics[0]["value"] >= 0.98
    assert "dense on the test split of digits (360 samples)" in out


def test_the_readme_shows_commands_that_compose(rcc_run):
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^rcc-run (.*?)(?: +#.*)?$", text, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        arguments = command.split()
        if "<" in command or "resume=" in command or "--" in command or "-m" in arguments or "model=clip" in arguments:
            continue
        code, _, err = rcc_run(*arguments, "dry_run=true")
        assert code == 0, f"{command}: {err}"


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["pipeline"].get_pipeline_summary().retention >= 0.95
    assert (tmp_path / "small/manifest.json").is_file()
    again, model = names["again"], names["model"]
    difference = (again.encode_text("a handwritten seven") - model.encode_text("a handwritten seven")).abs().max()
    assert difference < 1e-2
