"""job=train: what is refused before data are loaded, what it prints, and resume after a kill to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

SMALL = (
    "job=train", "data=digits", "data.train=64", "data.selection=20", "data.calibration=10", "data.test=20",
    "trainer.epochs=3", "trainer.batch_size=16", "trainer.warmup=2", "threads=1", "device=cpu",
    "trainer.architecture={hidden: 32, mlp: 64, heads: 2, vision_layers: 1, text_layers: 1, projection: 16}",
)  # fmt: skip


def weights(folder):
    return (folder / "checkpoint/model.safetensors").read_bytes()


def test_a_range_is_refused_before_data_are_loaded(rcc_run, monkeypatch, tmp_path):
    def loaded(*_, **__):
        raise AssertionError("data were loaded")

    monkeypatch.setattr("rcc.jobs.job.Job.data", loaded)
    code, _, err = rcc_run("job=train", "trainer.degrees=-1", "trainer.optimiser=adam", "hydra.run.dir=run")
    assert code == 2
    assert "degrees is -1; it must be a number in [0, 180]." in err
    assert "unknown optimiser 'adam'. Did you mean 'adamw'?" in err
    assert not (tmp_path / "run").exists()
    code, _, err = rcc_run("job=train", "trainer.precision=float16", "device=cpu", "hydra.run.dir=run")
    assert (code, "precision is float16 and the model is on a CPU" in err) == (2, True), err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("job=train", "trainer.batch_size=63"), "batch_size is 63 and there are 2 processes"),
        (("job=train", "trainer=recover", "trainer.batch_size=33"), "batch_size is 33 and there are 2 processes"),
        (("job=compress",), "compress was launched as 2 processes, and runs in one"),
        (("job=train",), "accelerate was told to use FSDP"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_by_name(rcc_run, monkeypatch, arguments, told):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true" if "FSDP" in told else "false")
    code, _, err = rcc_run(*arguments, "hydra.run.dir=run")
    assert (code, told in err) == (2, True), err


@pytest.mark.long
def test_two_processes_train_as_one_and_the_first_alone_writes(fresh_rcc_run, tmp_path):
    every = (*SMALL[:3], *SMALL[4:])
    assert fresh_rcc_run(*every, "hydra.run.dir=one").wait(timeout=300) == 0
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
    command = [*launch, "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m", "rcc.cli"]
    done = subprocess.run(
        [*command, *every, "hydra.run.dir=two"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 3 of 3") == 1
    histories = [json.loads((tmp_path / f"{name}/checkpoint/TRAINING.json").read_text()) for name in ("one", "two")]
    losses = [[epoch["loss"] for epoch in each["history"]["epochs"]] for each in histories]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_a_log_has_a_line_an_epoch_and_a_finished_training_has_nothing_to_do(rcc_run, tmp_path):
    code, out, err = rcc_run(*SMALL, "hydra.run.dir=outputs/a/1")
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == [f"epoch {number} of 3" for number in (1, 2, 3)]
    assert all("loss " in line and "selection " in line and "steps/s" in line for line in lines)
    assert lines[0].endswith(" left")
    before = weights(tmp_path / "outputs/a/1")
    code, out, err = rcc_run("resume=latest")
    assert (code, "outputs/a/1 has already finished" in out) == (0, True), err
    assert weights(tmp_path / "outputs/a/1") == before
    code, _, err = rcc_run("resume=latest", "trainer.batch_size=8", "trainer.optimiser=sgd", "seed=1")
    assert code == 2
    for told in ("trainer.batch_size: recorded 16, asked 8", "'adamw', asked 'sgd'", "seed: recorded 0, asked 1"):
        assert told in err


@pytest.mark.long
def test_a_training_killed_three_times_resumes_to_the_same_bytes(fresh_rcc_run, tmp_path):
    every = ("trainer.epochs=8", "trainer.checkpoint_every=2", "trainer.average=0.9", *SMALL[:6], *SMALL[7:])
    process = fresh_rcc_run(*every, "hydra.run.dir=whole")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    last = tmp_path / "run/training/last.safetensors"
    process = fresh_rcc_run(*every, "hydra.run.dir=run")
    for writes in (2, 5, 3):  # checkpoints that are seen before the kill, which comes at whatever comes next
        seen = {last.stat().st_mtime_ns} if last.exists() else set()
        while len(seen) < writes and process.poll() is None:
            seen |= {last.stat().st_mtime_ns} if last.exists() else set()
        process.kill()
        process.communicate()
        process = fresh_rcc_run("resume=run")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    histories = [json.loads((tmp_path / f"{name}/checkpoint/TRAINING.json").read_text()) for name in ("run", "whole")]
    assert histories[0]["history"] == histories[1]["history"]


def test_an_interrupted_training_says_how_to_continue(fresh_rcc_run, tmp_path):
    process = fresh_rcc_run(*SMALL[:6], "trainer.epochs=10000", *SMALL[7:], "hydra.run.dir=run")
    while not (tmp_path / "run/training/last.safetensors").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "interrupted. Continue with: rcc-run resume=run" in output
