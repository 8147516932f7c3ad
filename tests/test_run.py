"""What a composed config describes: every object built, every problem told at once, nothing called that is no stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from rcc.composing.composition import Composer, composer, own
from rcc.errors import UserError
from rcc.run import problems, read


@pytest.fixture(scope="module")
def configs() -> Iterator[Composer]:
    with composer() as opened:
        yield opened


def config(configs: Composer, *texts: str) -> DictConfig:
    return own(configs.compose(texts))


def test_the_default_describes_a_cascade_a_gate_and_an_evaluator(configs: Composer, tmp_path: Path) -> None:
    request = read(config(configs), tmp_path, ["threads=1"])
    assert [(stage.method, stage.label) for stage in request.stages] == [("dare", "dare"), ("quant", "quant")]
    assert (request.gate.threshold, request.gate.tries) == (0.95, 3)
    assert request.suite is not None
    assert (request.directory, request.overrides) == (tmp_path, ["threads=1"])
    assert OmegaConf.to_container(OmegaConf.create(request.config_text)) == request.settings


def test_options_reach_the_stage_they_are_of(configs: Composer, tmp_path: Path) -> None:
    texts = ["stage=dare+dare", "stage.dare_2.target_sparsity=0.25"]
    first, second = read(config(configs, *texts), tmp_path, texts).stages
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
        (["state.keep_last=0"], "state.keep_last is 0; it must be 1 or more."),
        (["calibration.batch_size=0"], "calibration.batch_size is 0; it must be 1 or more."),
        (["device=gpu"], "gpu"),
        (["stage=quant+dare"], "quant"),
        (["stage=quant", "stage.quant.bits=8", "target_ratio=4"], "a target in bytes needs a stage with a strength"),
        (["runtime=auto"], "runtime=auto is for job=evaluate; job=compress runs models as stored."),
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
        ("os.system", "its _target_ 'os.system' is not a subclass of rcc.stages.base.Stage."),
        ("rcc.stages.dare.state.PruningState", "is not a subclass of rcc.stages.base.Stage."),
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
