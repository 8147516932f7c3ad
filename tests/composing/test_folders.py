"""Where a command writes: default folders are new ones, also for runs begun in one second; plans have none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rcc.composing.composition import composer
from rcc.composing.folders import RUN, SWEEP, folder_of, new_folder
from rcc.errors import UserError


def asked(*texts: str, multirun: bool = False):
    with composer() as configs:
        return folder_of(texts, configs, multirun)


def test_each_of_many_at_once_gets_a_folder_of_its_own(tmp_path):
    place = tmp_path / "outputs/2026-01-02/03-04-05"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_folder(place), range(32)))
    assert sorted(path.name for path in made) == sorted(["03-04-05", *(f"03-04-05_{n}" for n in range(1, 32))])
    assert all(path.is_dir() for path in made)


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*Give another folder: rcc-run hydra.run.dir="):
        new_folder(tmp_path / "file/run")


def test_the_shipped_default_is_a_default_and_a_folder_that_was_named_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert asked().default.parts[0] == "outputs"
    assert asked("stage=dare,nullu", multirun=True).default.parts[0] == "multirun"
    assert asked("hydra.run.dir=mine").default is None
    assert asked("stage=dare,nullu", "hydra.sweep.dir=mine", multirun=True).default is None
    with asked("hydra.run.dir=mine").options() as options:
        assert options == []
    with asked().options() as options:
        (option,) = options
    key, _, value = option.partition("=")
    assert key == RUN
    assert Path(value.strip('"')).is_dir()


def test_a_plan_is_given_no_folder_and_that_of_a_sweep_one_of_a_moment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with asked("dry_run=true", "hydra.run.dir=mine").options() as options:
        assert options == [f"{RUN}=."]
    plan = asked("stage=dare,dare+nullu", "++stage.nullu.rank_reduction_ratio=0.5", "dry_run=true", multirun=True)
    with plan.options() as options:
        (option,) = options
        assert option.startswith(f"{SWEEP}=")
        scratch = Path(option.partition("=")[2].strip('"'))
        assert scratch.is_dir()
    assert not scratch.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_job_without_plans_is_not_dry():
    assert not asked("job=evaluate").dry
