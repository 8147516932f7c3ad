"""What `artifact=` names: artifacts in either container, checkpoints, the dense model; anything else is explained."""

from __future__ import annotations

import pytest
from toys.adapters import compress, dense_toy

from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.jobs.subjects import subjects_of


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it, with an artifact in each container."""
    for name, container in (("artifact", "directory"), ("artifact.rcc", "file")):
        write_artifact(compress(dense_toy()), tmp_path / "run" / name, metrics={"kept": 0.5}, container=container)
    return tmp_path / "run"


def test_artifacts_are_found_in_either_container_with_what_they_recorded_and_their_bytes(run):
    subjects = subjects_of([str(run / "artifact"), str(run / "artifact.rcc"), "dense"])
    assert [subject.kind for subject in subjects] == ["artifact", "artifact", "dense"]
    assert [subject.metrics() for subject in subjects] == [{"kept": 0.5}, {"kept": 0.5}, None]
    assert subjects[1].nbytes(None, run) == (run / "artifact.rcc").stat().st_size
    assert subjects[0].nbytes(None, run) == sum(p.stat().st_size for p in (run / "artifact").rglob("*") if p.is_file())


def test_null_is_the_dense_model_and_a_checkpoint_has_a_config_and_safetensors(clip_checkpoint):
    assert [subject.kind for subject in subjects_of(None)] == ["dense"]
    assert [subject.kind for subject in subjects_of(str(clip_checkpoint))] == ["checkpoint"]


def test_what_is_none_of_them_is_told_with_what_was_found(run, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    names = [
        str(run),
        str(tmp_path / "notes.txt"),
        str(tmp_path / "none"),
        7,
        str(run / "artifact"),
        f"{run}/artifact/",
    ]
    with pytest.raises(UserError) as caught:
        subjects_of(names)
    texts = list(caught.value.problems)
    assert f"Did you mean {run / 'artifact'}?" in texts[0]
    assert "it is a file, and not one such as artifact.rcc" in texts[1]
    assert "there is nothing of that name" in texts[2]
    assert "artifact is 7, which YAML reads as a int" in texts[3]
    assert "more than once" in texts[4]


def test_a_damaged_artifact_is_refused_at_once(run):
    path = run / "artifact.rcc"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="cut short"):
        subjects_of(str(path))
