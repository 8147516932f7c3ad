"""`resume=` becomes the recorded overrides, and a config that means something else is refused."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rcc.composing import resume
from rcc.composing.composition import Composer, own
from rcc.errors import UserError


def record(path: Path, configs: Composer, overrides: list[str], *started: str) -> Path:
    """What a run leaves in its directory, as far as resume reads it."""
    (path / ".hydra").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"attempts": [{"started": time} for time in started]}))
    OmegaConf.save(own(configs.compose(overrides)), path / ".hydra/config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), path / ".hydra/overrides.yaml")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        ([], None),
        (["seed=1"], None),
        (["resume=null"], None),
        (["resume="], None),
        (["resume=a", "resume='b c'"], "b c"),
        (["seed=1", "resume=latest"], "latest"),
    ],
)
def test_the_last_resume_counts(texts: list[str], value: str | None) -> None:
    assert resume.asked(texts) == value


def test_latest_is_the_newest_run_of_runs_and_sweeps(here: Path, configs: Composer) -> None:
    record(here / "outputs/2026-11-20/10-00-00", configs, [], "2026-11-20T10:00:00.500+00:00")
    record(here / "multirun/2026-11-19/10-00-00/3", configs, [], "2026-11-20T10:00:00.501+00:00")
    record(here / "outputs/2026-11-21/10-00-00", configs, [], "2026-11-20T11:00:00+02:00")
    assert resume.directory("latest") == Path("multirun/2026-11-19/10-00-00/3")


def test_latest_is_the_last_one_started_or_resumed_whatever_the_files_times(here: Path, configs: Composer) -> None:
    resumed = ("2026-11-19T10:00:00+00:00", "2026-11-22T10:00:00+00:00")
    record(here / "outputs/2026-11-19/10-00-00", configs, [], *resumed)
    for age, day in enumerate(["2026-11-20", "2026-11-21"]):
        path = record(here / f"outputs/{day}/10-00-00", configs, [], f"{day}T10:00:00+00:00")
        os.utime(path / "run.json", (4e9 + age, 4e9 + age))  # copied, or touched, long after
    assert resume.directory("latest") == Path("outputs/2026-11-19/10-00-00")


@pytest.mark.parametrize("content", ["", "[]", '{"attempts": []}', '{"attempts": [{"started": 5}]}', "\0", "[" * 9999])
def test_latest_passes_over_no_run_that_does_not_say_when_it_started(
    here: Path, configs: Composer, content: str
) -> None:
    record(here / "outputs/2026-11-21/10-00-00", configs, [], "2026-11-21T10:00:00+00:00")
    damaged = record(here / "outputs/2026-11-20/10-00-00", configs, [])
    (damaged / "run.json").write_text(content)
    assert resume.directory("latest") == Path("outputs/2026-11-20/10-00-00")


def test_latest_without_any_run_is_refused(here: Path) -> None:
    with pytest.raises(UserError, match=r"no run\.json of a compression or a training under outputs/ or multirun/"):
        resume.directory("latest")


def test_a_directory_that_is_no_run_is_refused_with_what_is_near(here: Path, configs: Composer) -> None:
    record(here / "outputs/2026-11-20/10-00-00", configs, [])
    with pytest.raises(UserError, match=r"no such directory\. Did you mean 'outputs/2026-11-20/10-00-00'\?"):
        resume.directory("outputs/2026-11-20/10-00-01")
    with pytest.raises(UserError, match=r"has no run\.json\. It holds the runs outputs/2026-11-20/10-00-00"):
        resume.directory("outputs/2026-11-20")


def test_recorded_overrides_come_back_with_the_directory(here: Path, configs: Composer) -> None:
    path = record(Path("outputs/2026-11-20/10-00-00"), configs, ["stage=dare", "seed=3"])
    texts = resume.arguments(path, ["resume=latest", "logger=wandb"])
    assert texts == [
        "stage=dare",
        "seed=3",
        "logger=wandb",
        'resume="outputs/2026-11-20/10-00-00"',
        'hydra.run.dir="outputs/2026-11-20/10-00-00"',
    ]
    cfg = configs.compose(texts)
    assert cfg.hydra.run.dir == cfg.resume == "outputs/2026-11-20/10-00-00"
    assert list(cfg.stage) == ["dare"]
    resume.check(path, own(cfg))


@pytest.mark.parametrize("name", ["with space", 'quote"s', "a=b,c", "ünï+cödé", "end\\"])
def test_any_path_can_be_resumed(here: Path, configs: Composer, name: str) -> None:
    path = record(here / name, configs, [])
    cfg = configs.compose(resume.arguments(path, [f"resume={path}"]))
    assert cfg.resume == cfg.hydra.run.dir == str(path)


@pytest.mark.parametrize(
    "text",
    [
        "model.target=os:system",
        "+model.arguments.command=ls",
        "model.arguments={command: ls}",
        "stage.dare._target_=os.system",
        "hydra.searchpath=[file:///evil]",
        "hydra/launcher=joblib",
        "+hydra.callbacks.x._target_=os.system",
    ],
)
def test_code_is_never_taken_from_a_run_directory_and_is_said_again(here: Path, configs: Composer, text: str) -> None:
    path = record(here / "run", configs, [])
    (path / ".hydra/overrides.yaml").write_text(f"- seed=1\n- '{text}'\n")
    with pytest.raises(UserError) as caught:
        resume.arguments(path, ["resume=run"])
    assert f"chooses the code to run, by {text}, and code is never taken from a directory" in str(caught.value)
    again = shlex.split(str(caught.value).partition("say it again: ")[2])
    assert again == ["rcc-run", f"resume={path}", text]
    taken = resume.arguments(path, again[1:])
    assert taken[:2] == ["seed=1", text]


def test_code_said_now_takes_the_place_of_code_that_was_recorded(here: Path, configs: Composer) -> None:
    path = record(here / "run", configs, [])
    (path / ".hydra/overrides.yaml").write_text("- model=module\n- model.target=os:system\n")
    taken = resume.arguments(path, [f"resume={path}", "model.target=mine:Network"])
    assert [text for text in taken if "target" in text] == ["model.target=mine:Network"]


@pytest.mark.parametrize("extra", ["logger=wandb", "dry_run=true", "state.keep_last=5"])
def test_what_does_not_change_the_result_may_change(here: Path, configs: Composer, extra: str) -> None:
    path = record(here / "run", configs, ["stage=dare"])
    resume.check(path, own(configs.compose(resume.arguments(path, [extra]))))


def test_every_difference_in_meaning_is_listed(here: Path, configs: Composer) -> None:
    path = record(here / "run", configs, ["stage=dare+nullu", "stage.dare.target_sparsity=0.7"])
    texts = resume.arguments(path, ["stage.dare.target_sparsity=0.8", "threads=2", "gate.tries=0"])
    with pytest.raises(UserError) as caught:
        resume.check(path, own(configs.compose(texts)))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[1:4] == [
        "stage.dare.target_sparsity: recorded 0.7, asked 0.8",
        "gate.tries: recorded 3, asked 0",
        "threads: recorded None, asked 2",
    ]
    assert len(caught.value.problems) == 1
    assert "Continue as recorded with" in lines[-1]


def test_another_cascade_is_a_difference(here: Path, configs: Composer) -> None:
    path = record(here / "run", configs, ["stage=dare+nullu"])
    with pytest.raises(UserError, match=r"stage: recorded dare\+nullu, asked nullu\+dare"):
        resume.check(path, own(configs.compose(resume.arguments(path, ["stage=nullu+dare"]))))


def test_an_unreadable_record_is_refused_by_name(here: Path, configs: Composer) -> None:
    path = record(here / "run", configs, [])
    overrides, config = path / ".hydra/overrides.yaml", path / ".hydra/config.yaml"
    for broken in (b"- [unclosed", b"\xff\xfe\x00", b"just: a mapping"):
        overrides.write_bytes(broken)
        with pytest.raises(UserError, match=r"overrides\.yaml"):
            resume.arguments(path, [])
    overrides.unlink()
    with pytest.raises(UserError, match=r"overrides\.yaml is missing"):
        resume.arguments(path, [])
    for broken in (b"stage: [", b"- a list"):
        config.write_bytes(broken)
        with pytest.raises(UserError, match=r"config\.yaml"):
            resume.check(path, own(configs.compose([])))


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ("stage=dare+nullu", "stage=nullu+dare", "stage: recorded dare+nullu, asked nullu+dare"),
        (
            "eval=zero_shot+efficiency",
            "eval=efficiency+zero_shot",
            "eval: recorded zero_shot+efficiency, asked efficiency+zero_shot",
        ),
    ],
)
def test_another_order_of_the_same_names_is_another_run(
    here: Path, configs: Composer, then: str, now: str, told: str
) -> None:
    run = record(here / "run", configs, [then])
    resume.check(run, own(configs.compose([then])))
    with pytest.raises(UserError, match=told.replace("+", r"\+")):
        resume.check(run, own(configs.compose([now])))


def test_files_named_from_another_folder_are_said_to_be_there(here: Path, configs: Composer) -> None:
    overrides = ["model=clip", "model.path=models/mine", "data=cifar10", "data.path=cifar"]
    path = record(here / "work/outputs/1/2", configs, overrides)
    cfg = own(configs.compose(overrides))
    resume.check(path, cfg)  # nothing of that name anywhere: the loaders have the last word, it may be a hub's name
    (here / "work/models/mine").mkdir(parents=True)
    (here / "cifar").mkdir()
    with pytest.raises(UserError) as caught:
        resume.check(Path("work/outputs/1/2"), cfg)
    (told,) = caught.value.problems
    assert told.startswith("resume=work/outputs/1/2: model.path is 'models/mine', seen from the folder where")
    assert told.endswith(f"{here / 'work'} has it: `cd {here / 'work'}` and then `rcc-run resume=outputs/1/2`.")
    (here / "models/mine").mkdir(parents=True)
    resume.check(path, cfg)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text", [BOMB, "[" * 5000, "5", "\udcff", "a: !!python/object/apply:os.system [ls]", "- *nobody"]
)
@pytest.mark.parametrize("name", ["config.yaml", "overrides.yaml"])
def test_hostile_records_are_refused_by_name_and_never_expanded(
    here: Path, configs: Composer, name: str, text: str
) -> None:
    run = record(here / "run", configs, [])
    (run / ".hydra" / name).write_bytes(text.encode(errors="surrogateescape"))
    read = {
        "overrides.yaml": lambda: resume.arguments(run, []),
        "config.yaml": lambda: resume.check(run, own(configs.compose([]))),
    }
    with pytest.raises(UserError, match=name):
        read[name]()
