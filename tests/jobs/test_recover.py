"""rcc-run job=train trainer=recover: what exists is recovered in no more bytes, never worse; what is refused, how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import rcc
from rcc.artifact.size import directory_bytes
from rcc.artifact.write import write_artifact
from rcc.jobs.storing import Storing
from rcc.layers.grid import to_grid
from rcc.models.registry import load_model
from rcc.stages.base import StageContext
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.quant.quantizer import Quantizer

DATA = ("data=digits", "data.train=96", "data.selection=40", "data.calibration=16", "data.test=40")
SMALL = (
    "job=train", "trainer=recover", "trainer.epochs=2", "trainer.batch_size=32", "trainer.warmup=1",
    "threads=1", "device=cpu", *DATA, "hydra.run.dir=run",
)  # fmt: skip


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    """An artifact of the embedded CLIP, pruned and rounded beyond what it bears."""
    model = load_model("clip_tiny", device="cpu")
    context = StageContext(storage=torch.float16)
    DARECompressor(target_sparsity=0.8, score="magnitude", allocation="uniform", solver="none").apply(model, context)
    Quantizer(bits=4, rounding="nearest").apply(model, context)
    folder = tmp_path_factory.mktemp("compressed")
    write_artifact(model, folder / "artifact", "float16")
    return folder / "artifact"


@pytest.fixture
def artifact(compressed, tmp_path):
    return Path(shutil.copytree(compressed, tmp_path / "old/artifact"))


def test_an_artifact_is_recovered_from_a_teacher_in_no_more_bytes_with_its_zeros_and_steps(rcc_run, artifact, tmp_path):
    code, out, err = rcc_run(*SMALL, "model.path=old/artifact", "teacher=clip_tiny")
    assert code == 0, err
    assert "selection accuracy" in out
    assert "test accuracy" in out
    found = json.loads((tmp_path / "run/recovery.json").read_text())
    accuracy = found["selection"]["accuracy"]
    assert accuracy["after"] > accuracy["before"] + 0.05
    assert found["bytes"] == [directory_bytes(artifact), directory_bytes(tmp_path / "run/artifact")]
    assert found["bytes"][1] <= found["bytes"][0]
    before, after = rcc.load(artifact), rcc.load(tmp_path / "run/artifact")
    for was, unit in zip(before.units(), after.units(), strict=True):
        old, new = was.read(), unit.read()
        assert not bool(new.dense()[old.dense() == 0].any())
        for (name, step), (_, same) in zip(old.steps(), new.steps(), strict=True):
            assert torch.equal(step, same)
            to_grid(dict(new.matrices())[name], step)
    again = json.loads((tmp_path / "run/run.json").read_text())["result"]["numbers"]
    assert again["retention"] == found["retention"]
    code, out, _ = rcc_run("resume=run")
    assert (code, "it left run/artifact" in out) == (0, True)


@pytest.fixture
def small(small_clip, tmp_path):
    """The file of a random CLIP, rounded; accuracies mean nothing."""
    model = load_model("clip", path=small_clip[1].partition("=")[2], device="cpu")
    Quantizer(bits=4, rounding="nearest").apply(model, StageContext(storage=torch.float16))
    write_artifact(model, tmp_path / "artifact.rcc", "float16", container="file")
    return tmp_path / "artifact.rcc"


def test_without_a_teacher_the_models_own_loss_is_learned_by_and_a_file_becomes_a_file(rcc_run, small, tmp_path):
    code, _, err = rcc_run(*SMALL, "model.path=artifact.rcc")
    assert code == 0, err
    found = json.loads((tmp_path / "run/recovery.json").read_text())
    assert found["selection"]["accuracy"]["after"] >= found["selection"]["accuracy"]["before"]
    assert found["retention"] is None
    assert found["without_effect"] == []
    assert (tmp_path / "run/artifact.rcc").stat().st_size <= small.stat().st_size


def test_a_recovery_that_was_stopped_resumes_to_the_same_bytes(rcc_run, small, checkpoint_of, monkeypatch, tmp_path):
    every = (*SMALL[:-1], "trainer.epochs=4", "model.path=artifact.rcc", f"teacher={checkpoint_of('clip')}")
    assert rcc_run(*every, "hydra.run.dir=whole")[0] == 0

    def stop(display, done, total, what):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rcc.reporting.training.TrainingDisplay.finished", stop)
        code, _, err = rcc_run(*every, "hydra.run.dir=run")
    assert (code, "Continue with: rcc-run resume=run" in err) == (130, True), err
    code, out, err = rcc_run("resume=run")
    assert code == 0, err
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("epoch ")][:2] == [
        "epoch 3 of 4",
        "epoch 4 of 4",
    ]
    assert (tmp_path / "run/artifact.rcc").read_bytes() == (tmp_path / "whole/artifact.rcc").read_bytes()


def test_another_artifact_in_the_same_place_is_another_training(rcc_run, small, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rcc.reporting.training.TrainingDisplay.finished", stop)
        assert rcc_run(*SMALL, "model.path=artifact.rcc")[0] == 130
    model = rcc.load(small)
    with torch.no_grad():
        model.module.logit_scale += 1
    small.unlink()
    write_artifact(model, small, "float16", container="file")
    code, _, err = rcc_run("resume=run")
    assert (code, "the checkpoint is of another training: artifact was" in err) == (2, True), err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "trains an artifact that exists: name it, model.path=<run>/artifact"),
        (("model.path=old",), "'old' is no artifact, and trainer=recover trains what one stores. Did you mean"),
        (
            ("model.path=old/artifact", "trainer.when=round"),
            "trainer.when=round has no effect: job=train has no rounds",
        ),
        (("model.path=old/artifact", "trainer.features=2"), "trainer.features=2 has no effect without a dense model"),
        (("model.path=old/artifact", "teacher=nowhere"), "nowhere"),
        (("model.path=old/artifact", "teacher=random"), "tokenizer"),
        (("trainer=none",), "trainer=none trains nothing. Take trainer=pretrain"),
        (("trainer=pretrain", "model.path=old/artifact"), "model.path=old/artifact has no effect: trainer 'pretrain'"),
        (
            ("trainer=pretrain", "teacher=clip_tiny"),
            "teacher=clip_tiny has no effect: trainer 'pretrain' makes a model",
        ),
        (("job=compress", "model=clip_tiny", "trainer=pretrain"), "trainer=pretrain makes a model from scratch"),
    ],
)
def test_what_cannot_be_recovered_is_refused_with_what_to_do(
    rcc_run, artifact, checkpoint_of, tmp_path, arguments, told
):
    shutil.copytree(checkpoint_of("siglip"), tmp_path / "random")
    given = {text.partition("=")[0]: text for text in (*SMALL, *arguments)}
    kept = [
        text for key, text in given.items() if key.split(".")[0] != "trainer" or "trainer=" not in " ".join(arguments)
    ]
    own = [text for text in arguments if text.startswith("trainer=")]
    code, _, err = rcc_run(*dict.fromkeys([*kept, *own]))
    assert code == 2, err
    assert told in " ".join(err.split()), err
    assert not (tmp_path / "run/artifact").exists()


def test_bytes_are_counted_as_they_will_be_written(artifact, tmp_path):
    storing = Storing(artifact)
    assert (storing.dtype, storing.entropy, storing.container) == ("float16", "zstd", "directory")
    model = rcc.load(artifact)
    storing.expect(model, tmp_path)
    assert storing.nbytes(model) == directory_bytes(artifact)
