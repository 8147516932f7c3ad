"""A composed config becomes the job that it describes; every problem is told at once, nothing else is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from rcc import run
from rcc.composing.composition import Composer, composer, own
from rcc.errors import UserError
from rcc.jobs.compress import Compress
from rcc.jobs.job import Job

CHOICES = {"job": "compress", "model": "clip_tiny", "data": "digits", "trainer": "none"}


@pytest.fixture(scope="module")
def configs() -> Iterator[Composer]:
    with composer() as opened:
        yield opened


def config(configs: Composer, *texts: str) -> DictConfig:
    return own(configs.compose(texts))


def problems(cfg: DictConfig) -> list[str]:
    return run.problems(cfg, CHOICES)


def read(cfg: DictConfig, directory: Path = Path(), overrides: Sequence[str] = ()) -> Job:
    return run.read(cfg, CHOICES, directory, overrides)


def test_the_default_describes_a_cascade_a_gate_and_an_evaluator(configs: Composer, tmp_path: Path) -> None:
    job = read(config(configs), tmp_path, ["threads=1"])
    assert type(job) is Compress
    assert [(stage.method, stage.label) for stage in job.stages] == [("dare", "dare"), ("quant", "quant")]
    assert (job.gate.threshold, job.gate.tries) == (0.95, 3)
    assert job.suite is not None
    assert (job.directory, job.overrides) == (tmp_path, ["threads=1"])
    recorded = OmegaConf.to_container(OmegaConf.create(job.config_text))
    assert isinstance(recorded, dict)
    named = {group: {"name": CHOICES[group], **recorded[group]} for group in ("model", "data", "trainer")}
    assert job.settings == recorded | named


def test_options_reach_the_stage_they_are_of(configs: Composer, tmp_path: Path) -> None:
    texts = ["stage=dare+dare", "stage.dare_2.target_sparsity=0.25"]
    job = read(config(configs, *texts), tmp_path, texts)
    assert isinstance(job, Compress)
    first, second = job.stages
    assert (second.label, second.strength) == ("dare_2", 0.25)
    assert first.strength != 0.25


def test_everything_that_is_wrong_is_told_at_once(configs: Composer) -> None:
    found = problems(
        config(configs, "threads=0", "seed=-1", "export.dtype=int3", "gate.threshold=2", "stage.dare.target_sparsity=7")
    )
    for told in ("threads is 0", "seed is -1", "export.dtype", "threshold", "target_sparsity"):
        assert any(told in problem for problem in found), told
    assert problems(config(configs)) == []


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["state.keep_last=0"], "state.keep_last is 0; it must be a whole number from 1 up."),
        (["calibration.batch_size=0"], "calibration.batch_size is 0; it must be a whole number from 1 up."),
        (["device=gpu"], "gpu"),
        (["stage=quant+dare"], "quant"),
        (
            ["stage=quant", "stage.quant.bits=8", "target_ratio=4"],
            "a target in bytes needs quant with bits=auto at the end",
        ),
        (["eval=efficiency"], "efficiency"),
        (["model=clip", "model.path=2020"], "model.path is 2020, which YAML reads as a int; write model.path=./2020."),
    ],
)
def test_what_cannot_work_is_told_in_one_sentence(configs: Composer, texts: list[str], told: str) -> None:
    [found] = problems(config(configs, *texts))
    assert told in found


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("os.system", "its _target_ 'os.system' is not a subclass of rcc.stages.base.Stage, or"),
        ("rcc.stages.dare.state.PruningState", "is not a subclass of rcc.stages.base.Stage, or"),
        ("no.such.module.Stage", "its _target_ 'no.such.module.Stage' cannot be imported"),
        ("bare", "its _target_ 'bare' cannot be imported"),
    ],
)
def test_nothing_but_a_class_of_stages_is_ever_called(configs: Composer, target: str, told: str) -> None:
    cfg = config(configs, "stage=dare")
    cfg.stage.dare = {"_target_": target, "command": "echo called"}
    [found] = problems(cfg)
    assert found.startswith("stage.dare: ")
    assert told in found


def test_a_nested_target_is_not_followed(configs: Composer, tmp_path: Path) -> None:
    cfg = config(configs, "stage=dare")
    mark = tmp_path / "called"
    OmegaConf.set_struct(cfg, False)
    cfg.stage.dare.include = {"_target_": "pathlib.Path.touch", "self": str(mark)}
    assert problems(cfg)
    assert not mark.exists()


def test_the_error_of_a_config_holds_every_problem(configs: Composer, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read(config(configs, "threads=0", "seed=-1"), tmp_path, [])
    assert len(refused.value.problems) == 2


def test_what_came_out_of_the_environment_is_used_and_not_published(
    configs: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "cpu")
    job = read(config(configs, "device=${oc.env:SECRET}", "stage.dare.scope=layer"))
    assert (job.settings["device"], job.published["device"]) == ("cpu", "${oc.env:SECRET}")
    assert job.published["model"] == job.settings["model"]
