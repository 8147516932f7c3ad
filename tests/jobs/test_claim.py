"""A run's directory: free again after a wrong input, and only for the data it was started on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from rcc.errors import UserError
from rcc.reporting.run_manifest import note_data, start_attempt

QUICK = ("stage=dare", "stage.dare.solver=none", "stage.dare.allocation=uniform", "schedule=one_shot", "threads=1")


def test_a_directory_that_a_wrong_input_left_empty_takes_the_command_mended(rcc_run, tmp_path, small_clip):
    code, _, err = rcc_run(*QUICK, "debug=quick", "model=clip", "model.path=./nowhere", "hydra.run.dir=run")
    assert code == 2
    assert "./nowhere" in err
    assert [entry.name for entry in (tmp_path / "run").iterdir() if entry.name != ".lock"] == []
    code, _, err = rcc_run(*QUICK, "debug=quick", *small_clip, "hydra.run.dir=run")
    assert code == 0, err
    assert (tmp_path / "run/artifact/manifest.json").is_file()


@pytest.mark.parametrize(
    ("words", "name", "make"),
    [
        ((*QUICK, "debug=quick"), "artifact", Path.touch),
        ((*QUICK, "debug=quick"), "artifact", lambda path: path.symlink_to("nowhere")),
        ((*QUICK, "debug=quick", "export.container=file"), "artifact.rcc", Path.touch),
        (("job=train", "trainer.epochs=1"), "checkpoint", Path.mkdir),
    ],
)
def test_what_stands_where_a_fresh_run_would_write_is_named_and_stays(rcc_run, tmp_path, words, name, make):
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / name)
    code, _, err = rcc_run(*words, "hydra.run.dir=run")
    assert code == 2
    assert f"run/{name} stands where this run would write, and no run made it. Move it elsewhere" in err
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {".lock", name}


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EROFS, 2)])
def test_a_full_disk_is_failed_work_and_a_place_that_is_forbidden_is_not(rcc_run, monkeypatch, number, code):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("rcc.jobs.claim.FileLock.acquire", refused)
    found, _, err = rcc_run(*QUICK, "debug=quick", "hydra.run.dir=run")
    assert (found, f"the output folder run cannot be written: {os.strerror(number)}" in err) == (code, True)


def test_a_run_that_kept_something_before_its_input_turned_out_wrong_stays(rcc_run, tmp_path):
    # What the state has cost is worth a resume: the gate's patience is an option that it could not do without.
    code, _, err = rcc_run(*QUICK, "debug=quick", "target_bytes=1000", "hydra.run.dir=run")
    assert code == 2, err
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"
    assert (tmp_path / "run/state").is_dir()
    code, _, err = rcc_run(*QUICK, "debug=quick", "hydra.run.dir=run")
    assert code == 2
    assert "already holds a run" in err


def test_a_resume_refuses_data_that_changed(rcc_run, tmp_path, small_clip):
    harsh = ("stage.dare.target_sparsity=0.99", "gate.threshold=1.0", "gate.tries=0", "gate.on_failure=abort")
    code, _, err = rcc_run(*QUICK, "debug=quick", *small_clip, *harsh, "hydra.run.dir=run")
    assert code == 1, err
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    assert len(manifest["data_fingerprint"]) == 64
    manifest["data_fingerprint"] = "0" * 64
    (tmp_path / "run/run.json").write_text(json.dumps(manifest))
    code, _, err = rcc_run("resume=run")
    assert code == 2
    assert "the data changed since the run in run was started (checksum 000000000000 then" in err


def test_the_data_of_the_first_attempt_are_noted_and_others_refused(tmp_path):
    start_attempt(tmp_path, command=["rcc-run"], seed=0)
    note_data(tmp_path, "a" * 64)
    note_data(tmp_path, "a" * 64)
    with pytest.raises(UserError, match="aaaaaaaaaaaa then, bbbbbbbbbbbb now"):
        note_data(tmp_path, "b" * 64)
