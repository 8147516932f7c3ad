"""job=compress from the command line: what it leaves, what it refuses, and that it goes on where it was killed."""

import json
import os
import shutil
import signal
import time
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO

import pytest
import torch
from filelock import FileLock

import rcc
from rcc.artifact.load import load
from rcc.cli import main

QUICK = ("debug=quick", "stage=dare+nullu+alpha", "stage.alpha.num_epochs=1", "threads=1")


def files_of(folder):
    """The bytes of every file, by its name below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished run of the embedded CLIP, and what it printed. Read only: a test that goes on with it
    takes a copy."""
    run, out = tmp_path_factory.mktemp("finished") / "run", StringIO()
    with redirect_stdout(out):
        assert main([*QUICK, f"hydra.run.dir={run}"]) == 0
    return run, out.getvalue()


@pytest.fixture
def copy_of_finished(finished, tmp_path):
    """Copies the finished run to a place below the test's folder."""

    def copy(place):
        return shutil.copytree(finished[0], tmp_path / place)

    return copy


def accuracy_lines(text):
    return [line for line in text.splitlines() if line.startswith("accuracy")]


def test_a_run_leaves_everything_a_user_was_promised(finished):
    run, out = finished
    assert "[3/3] alpha kept" in out
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
        "run.json",
        "metrics.jsonl",
        "report.md",
        "artifact/manifest.json",
        "artifact/weights.safetensors",
        "artifact/config.json",
        "artifact/tokenizer.json",
    } <= found
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    kept = sorted(path.name for path in (run / "state").iterdir() if path.is_dir())
    assert kept == ["step-000-initial", "step-002-nullu", "step-003-alpha"]
    model = load(run / "artifact")
    assert torch.isfinite(model.encode_text("a photo of the digit seven")).all()
    report = (run / "report.md").read_text()
    for part in ("## Steps", "## On the test split", "## On disk", "## What was left alone", "## Suggestions"):
        assert part in report


def test_a_gate_that_asks_for_confidence_counts_its_items_first_and_one_calibration_item_is_said(rcc_run):
    code, out, err = rcc_run(
        *("data.calibration=1", "data.selection=40", "data.test=40", "schedule=one_shot", "stage=dare", "threads=1"),
        *("gate.confidence=0.95", "gate.threshold=0.95"),
    )
    assert code == 2
    assert "of 40 selection items a model that changes no answer is known to keep 91.2% of the accuracy" in err
    assert "Take 73 selection items or more" in err
    assert "the calibration split is a single item; dare will fit to that one alone" in " ".join(out.split())


def test_the_artifact_measured_again_in_a_fresh_process_gives_the_same_to_the_last_digit(
    copy_of_finished, fresh_rcc_run, tmp_path
):
    copy_of_finished("run")
    recorded = json.loads((tmp_path / "run/artifact/manifest.json").read_text())["metrics"]["test"]
    process = fresh_rcc_run("debug=quick", "threads=1", "job=evaluate", "artifact=run/artifact", "hydra.run.dir=again")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    (measured,) = json.loads((tmp_path / "again/evaluation.json").read_text())["models"]
    assert {metric["name"]: metric["value"] for metric in measured["metrics"] if metric["name"] in recorded} == recorded
    assert measured["recorded"] == recorded
    assert " yes" in accuracy_lines(output)[0]


def test_a_run_killed_and_moved_resumes_to_the_same_artifact_to_the_byte(rcc_run, fresh_rcc_run, tmp_path, small_clip):
    slow = (*QUICK, *small_clip, "stage.alpha.num_epochs=60")
    killed = fresh_rcc_run(*slow, "hydra.run.dir=killed")
    while not list((tmp_path / "killed").glob("state/step-002-*")):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.05)
    time.sleep(0.3)  # into the learning of alpha
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed/artifact").exists()

    moved = tmp_path / "moved/by hand"
    moved.parent.mkdir()
    (tmp_path / "killed").rename(moved)
    resumed = fresh_rcc_run(f"resume={moved}")
    output = resumed.communicate(timeout=120)[0]
    assert resumed.returncode == 0, output
    assert "Resumed: 2 of 3 steps were done before. Still to do: alpha." in output
    assert rcc_run(*slow, "hydra.run.dir=whole")[0] == 0
    whole, again = (files_of(run / "artifact") for run in (tmp_path / "whole", moved))
    assert {"manifest.json", "weights.safetensors", "config.json"} <= whole.keys()
    assert [name for name in whole.keys() | again.keys() if whole.get(name) != again.get(name)] == []
    attempts = json.loads((moved / "run.json").read_text())["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["interrupted", "finished"]
    assert (moved / ".hydra/attempt-2/config.yaml").is_file()


def test_a_run_killed_before_its_first_step_resumes_to_the_same_bytes_with_a_batch_of_one(
    rcc_run, fresh_rcc_run, tmp_path
):
    """A product with a single row sums in an order that depends on where the weights lie in memory."""
    odd = (*QUICK, "stage=dare+alpha", "data.calibration=33", "stage.alpha.num_epochs=2")
    killed = fresh_rcc_run(*odd, "hydra.run.dir=killed")
    while not list((tmp_path / "killed").glob("state/step-000-*")):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    resumed = fresh_rcc_run("resume=killed")
    assert resumed.wait(timeout=120) == 0
    assert rcc_run(*odd, "hydra.run.dir=whole")[0] == 0
    whole, again = (tmp_path / name / "artifact/weights.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == again.read_bytes()


def test_a_finished_run_says_so_and_a_changed_config_is_refused(rcc_run, copy_of_finished, tmp_path):
    copy_of_finished("outputs/a/b")
    before = (tmp_path / "outputs/a/b/artifact/weights.safetensors").stat().st_mtime_ns
    code, out, _ = rcc_run("resume=latest")
    assert (code, "has already finished" in out) == (0, True)
    code, _, err = rcc_run("resume=outputs/a/b", "stage.dare.target_sparsity=0.6")
    assert code == 2
    assert "stage.dare.target_sparsity" in err
    assert "0.6" in err
    assert (tmp_path / "outputs/a/b/artifact/weights.safetensors").stat().st_mtime_ns == before


def test_a_used_directory_and_a_live_run_are_refused(rcc_run, copy_of_finished, tmp_path):
    copy_of_finished("run")
    code, _, err = rcc_run(*QUICK, "hydra.run.dir=run")
    assert (code, "already holds a run" in err) == (2, True)
    with FileLock(tmp_path / "run/.lock"):
        code, _, err = rcc_run(*QUICK, "hydra.run.dir=run")
    assert (code, "a run is live in" in err) == (2, True)


def test_a_dry_run_prints_the_plan_and_leaves_nothing(rcc_run, tmp_path):
    code, out, _ = rcc_run("dry_run=true", "stage=nullu+dare")
    assert code == 0
    assert "vision_model.encoder.layers.*.mlp.fc1 (4)" in out
    assert "left alone unless asked" in out
    assert list(tmp_path.iterdir()) == []


def test_runs_of_the_same_second_get_folders_of_their_own(rcc_run, tmp_path, monkeypatch, small_clip):
    class Still(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("hydra.core.utils.datetime", Still)
    assert [rcc_run("debug=quick", *small_clip, "stage=dare")[0] for _ in range(2)] == [0, 0]
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("outputs/*/*/artifact"))
    assert found == [f"outputs/2026-01-02/{name}/artifact" for name in ("03-04-05", "03-04-05_1")]


def test_the_plan_predicts_the_bytes_of_the_run(rcc_run, tmp_path):
    from rcc.models.registry import load_model, load_skeleton

    stages = [rcc.DARECompressor(0.7), rcc.NulluProjector(0.8, energy_threshold=None)]
    pipeline = rcc.RCCPipeline(stages, performance_threshold=1e-6, storage_entropy="none")
    planned = pipeline.plan(load_skeleton("clip_tiny")).steps[-1].nbytes
    data = rcc.load_data("digits", selection=20)
    evaluator = rcc.ZeroShotEvaluator()
    pipeline.run(load_model("clip_tiny", device="cpu"), lambda model: evaluator.evaluate(model, data.selection, data))
    assert pipeline.get_pipeline_summary().size.nbytes == planned


def test_every_problem_of_a_config_is_reported_at_once(rcc_run):
    code, _, err = rcc_run(
        "stage=dare+nullu",
        "stage.dare.target_sparsity=1.5",
        "stage.nullu.rank_reduction_ratio=-1",
        "gate.threshold=2",
        "gate.on_failure=skipp",
        "schedule.rounds=0",
        "export.dtype=int4",
        "export.entropy=zip",
        "seed=-1",
    )
    assert code == 2
    for wrong in (
        "target_sparsity is 1.5",
        "rank_reduction_ratio is -1",
        "threshold is 2",
        "rounds is 0",
        "seed is -1",
    ):
        assert wrong in err
    assert "Did you mean 'skip'?" in err
    assert "unknown export.dtype 'int4'" in err
    assert "unknown export.entropy 'zip'" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stage=daer"], "Did you mean 'dare'?"),
        (["stage="], "names no stage"),
        (["model=clap"], "Did you mean 'clip'?"),
        (["data=digit"], "Did you mean 'digits'?"),
        (["stage.dare.sparsity=0.5"], "target_sparsity"),
        (["model=clip", "model.path=nowhere"], "nowhere"),
        (["job=evaluate", "artifact=nowhere"], "is not an artifact"),
        (["resume=nowhere"], "no such directory"),
        (["data.calibration=5000"], "1797 exist"),
        (["stage.dare.include=[nothing*]"], "matches none"),
        (["stage=dare+alpha", "stage.alpha.loss=output"], "Did you mean 'outputs'?"),
    ],
)
def test_wrong_input_exits_2_and_says_what_to_do(rcc_run, arguments, said):
    code, _, err = rcc_run(*arguments)
    assert (code, said in err) == (2, True), err
    assert "Traceback" not in err


def test_an_output_folder_that_cannot_be_written_is_the_users_input(rcc_run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = rcc_run(*QUICK, "hydra.run.dir=file/run")
    assert (code, "file/run" in err) == (2, True), err


def test_a_disk_that_fills_up_fails_the_run_and_loses_nothing(rcc_run, tmp_path, monkeypatch, small_clip):
    import errno

    from rcc.artifact import weights

    real, writes = weights.write_packed, []

    def full(*arguments, **options):
        writes.append(1)
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr("rcc.artifact.write.write_packed", full)
    code, _, err = rcc_run(*QUICK, *small_clip, "hydra.run.dir=run")
    assert (code, "No space left" in err) == (1, True), err
    monkeypatch.setattr("rcc.artifact.write.write_packed", real)
    code, out, _ = rcc_run("resume=run")
    assert (code, "1 of 3 steps were done before" in out) == (0, True)


def test_a_stage_may_be_repeated_and_set_apart_from_its_namesake(rcc_run, tmp_path, small_clip):
    code, _, err = rcc_run(
        *QUICK[:1], *small_clip, "stage=dare+nullu+dare", "stage.dare.target_sparsity=0.2",
        "stage.dare_2.target_sparsity=0.4", "hydra.run.dir=run",
    )  # fmt: skip
    assert code == 0, err
    plan = json.loads((tmp_path / "run/run.json").read_text())["plan"]
    assert [(step["label"], step["strength"]) for step in plan] == [("dare", 0.2), ("nullu", 0.75), ("dare_2", 0.4)]


def test_a_sweep_runs_every_order_and_ends_with_a_table(rcc_run, tmp_path, small_clip):
    code, out, err = rcc_run("-m", "debug=quick", *small_clip, "stage=dare+nullu,nullu+dare", "hydra.sweep.dir=sweep")
    assert code == 0, err
    assert "on the Pareto front" in out
    assert (tmp_path / "sweep/0/report.md").is_file()
    assert (tmp_path / "sweep/1/report.md").is_file()


def test_a_config_may_name_stages_and_nothing_else(rcc_run):
    code, _, err = rcc_run("stage=dare", "stage.dare._target_=os.system")
    assert (code, "is not a subclass of rcc.stages.base.Stage" in err) == (2, True), err
    code, _, err = rcc_run("stage=dare", "stage.dare._target_=nowhere.Stage")
    assert (code, "cannot be imported" in err) == (2, True), err


def test_a_run_directory_that_would_choose_code_is_not_resumed(rcc_run, copy_of_finished):
    (copy_of_finished("run") / ".hydra/overrides.yaml").write_text("- stage.dare._target_=os.system\n")
    code, _, err = rcc_run("resume=run")
    assert (code, "code is never taken from a directory" in err) == (2, True), err


def test_an_evaluation_does_not_resume_and_latest_passes_over_the_rest(rcc_run, copy_of_finished):
    copy_of_finished("outputs/a/1")
    assert rcc_run("debug=quick", "job=evaluate", "artifact=outputs/a/1/artifact", "hydra.run.dir=outputs/a/2")[0] == 0
    code, out, _ = rcc_run("resume=latest")
    assert (code, "outputs/a/1 has already finished" in out) == (0, True)
    code, _, err = rcc_run("resume=outputs/a/2")
    assert (code, "only job=compress and job=train can be resumed" in err) == (2, True), err


def test_an_artifact_is_compared_with_its_own_numbers_on_its_own_data_only(rcc_run, finished):
    code, out, err = rcc_run("job=evaluate", f"artifact={finished[0]}/artifact", "hydra.run.dir=again")
    assert code == 0, err
    assert "measured on other data or other splits" in out
    assert "recorded" not in out


def test_problems_outside_the_stages_are_reported_with_them(rcc_run, tmp_path):
    code, _, err = rcc_run("device=cuda:99", "seed=-1", "job=evaluate", "artifact=nowhere")
    assert code == 2
    assert "seed is -1" in err
    assert "nowhere is not an artifact" in err
    assert "cuda:99" in err
    assert not (tmp_path / "outputs").exists()
