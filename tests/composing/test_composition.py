"""Composing the shipped configs: the stage grammar through Hydra, and every choice of every group."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from rcc import shipped
from rcc.composing.composition import Composer, chosen, composer, misplaced, own
from rcc.stages.options import WITH_A_MODEL

CONF = shipped.config_dir()
CHOICES = [(group, choice) for group in shipped.groups(CONF) for choice in shipped.choices(CONF, group)]


@pytest.mark.parametrize("stage", ["dare", "nullu+dare", "dare+nullu", "dare+nullu+dare", "alpha+alpha+alpha"])
def test_stages_are_composed_under_their_labels_in_the_order_asked(configs: Composer, stage: str) -> None:
    cfg = configs.compose([f"stage={stage}"])
    assert misplaced(cfg) == ""
    names = stage.split("+")
    assert [node._target_.split(".")[-2] for node in cfg.stage.values()] == names
    assert len(cfg.stage) == len(names)


def test_a_single_stage_has_the_shape_of_several(configs: Composer) -> None:
    single, several = configs.compose(["stage=dare"]), configs.compose(["stage=nullu+dare"])
    assert list(single.stage) == ["dare"]
    assert single.stage.dare == several.stage.dare


def test_evaluators_are_composed_like_stages(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/mine.yaml").write_text("# @package eval.mine\n_target_: my.Evaluator\nitems: 3\n")
    (tmp_path / "eval/lost.yaml").write_text("_target_: my.Evaluator\n")
    with composer(tmp_path) as configs:
        cfg = configs.compose(["eval=mine+zero_shot", "eval.zero_shot.batch_size=8"])
        assert misplaced(cfg) == ""
        assert list(cfg.eval) == ["mine", "zero_shot"]
        assert (cfg.eval.mine["items"], cfg.eval.zero_shot.batch_size) == (3, 8)
        assert list(configs.compose(["eval=zero_shot+mine"]).eval) == ["zero_shot", "mine"]
        assert "must be '# @package eval.lost'" in misplaced(configs.compose(["eval=lost"]))


def test_repeats_have_options_of_their_own(configs: Composer) -> None:
    cfg = configs.compose(
        ["stage=dare+nullu+dare", "stage.dare.target_sparsity=0.7", "stage.dare_2.target_sparsity=0.9"]
    )
    assert (cfg.stage.dare.target_sparsity, cfg.stage.dare_2.target_sparsity) == (0.7, 0.9)


def test_an_experiment_file_chooses_stages_and_their_options(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /stage: nullu+dare+nullu\n"
        "stage:\n  nullu_2:\n    rank_reduction_ratio: 0.25\n"
    )
    with composer(tmp_path) as configs:
        cfg = configs.compose(["experiment=mine"])
        assert list(cfg.stage) == ["nullu", "dare", "nullu_2"]
        assert cfg.stage.nullu_2.rank_reduction_ratio == 0.25
        assert cfg.stage.nullu.rank_reduction_ratio != 0.25
        assert list(configs.compose(["experiment=mine", "stage=dare+nullu+nullu"]).stage) == [
            "dare",
            "nullu",
            "nullu_2",
        ]


def test_a_stage_of_ones_own_takes_part_and_a_misplaced_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/mine.yaml").write_text("# @package stage.mine\n_target_: my.Stage\n")
    (tmp_path / "stage/lost.yaml").write_text("_target_: my.Stage\n")
    with composer(tmp_path) as configs:
        assert list(configs.compose(["stage=dare+mine"]).stage) == ["dare", "mine"]
        assert "mine" in configs.choices("stage")
        lost = configs.compose(["stage=lost"])
        assert "must be '# @package stage.lost'" in misplaced(lost)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_shipped_choice_composes_and_says_what_it_is(configs: Composer, group: str, choice: str) -> None:
    job = "compress" if group in shipped.default_choices(CONF) else "train"
    cfg = configs.compose([f"job={job}", f"{group}={choice}"] if group != "job" else [f"job={choice}"])
    assert chosen(cfg, [group]) == {group: choice}
    assert misplaced(cfg) == ""
    OmegaConf.to_container(own(cfg), resolve=True)
    about = shipped.about(CONF, group, choice)
    assert about.endswith((".", ":")) or len(about) > 20
    head = (CONF / group / f"{choice}.yaml").read_text().split("\n\n")[0]
    assert "rcc-run" in head, "the header shows the command"


def test_the_default_is_the_embedded_cascade(configs: Composer) -> None:
    cfg = configs.compose([])
    picked = chosen(cfg, configs.groups())
    assert picked["model"] == "clip_tiny"
    assert picked["data"] == "digits"
    assert picked["stage"] == "dare+quant"
    assert (picked["eval"], picked["logger"]) == ("zero_shot", "local")
    assert picked["trainer"] == "none"
    assert "experiment" not in picked
    assert "debug" not in picked


def test_each_job_has_the_groups_and_the_options_that_it_uses_and_no_others(configs: Composer) -> None:
    shared = {"job", "seed", "device", "threads", "limits", "data", "eval"}
    assert set(own(configs.compose(["job=train"]))) == shared | {"model", "trainer", "teacher", "resume"}
    assert set(own(configs.compose(["job=evaluate"]))) == shared | {"model", "artifact", "runtime"}
    compress = {
        "model",
        "stage",
        "trainer",
        "schedule",
        "logger",
        "gate",
        "export",
        "calibration",
        "state",
        "fold",
        "dry_run",
        "resume",
    }
    assert set(own(configs.compose([]))) == shared | compress | {"target_ratio", "target_bytes", "target_split"}


def _parameters(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


@pytest.mark.parametrize("name", shipped.choices(CONF, "stage"))
def test_a_stage_file_has_every_option_of_its_constructor_with_the_same_default(configs: Composer, name: str) -> None:
    node = OmegaConf.to_container(configs.compose([f"stage={name}"]).stage[name])
    assert isinstance(node, dict)
    options = _parameters(get_class(node.pop("_target_")))
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    assert node == {key: default for key, default in options.items() if key not in WITH_A_MODEL}


def test_other_files_have_the_options_of_what_they_configure(configs: Composer) -> None:
    from rcc.cascade.gate import Gate
    from rcc.cascade.schedule import Schedule
    from rcc.data.sets.digits import load_digits
    from rcc.reporting.wandb_logger import WandbObserver
    from rcc.training.pretrain import pretrain

    cfg, train = configs.compose(["logger=wandb"]), configs.compose(["job=train"])
    assert dict(cfg.gate) == {field.name: field.default for field in fields(Gate)}
    assert set(cfg.schedule) == {field.name for field in fields(Schedule)}
    assert dict(cfg.data) == {"_target_": "rcc.data.sets.digits.load_digits", **_parameters(load_digits)}
    assert set(cfg.logger.wandb) - {"_target_"} == set(_parameters(WandbObserver)) - {"directory", "config"}
    given_elsewhere = {"splits", "seed", "measure", "device", "progress", "callbacks", "checkpoints", "resume"}
    trainer = {key: value for key, value in _parameters(pretrain).items() if key not in given_elsewhere}
    assert dict(train.trainer) == {"_target_": "rcc.training.pretrain.pretrain", **trainer}


@pytest.mark.parametrize("name", shipped.choices(CONF, "eval"))
def test_an_evaluators_file_has_every_option_of_its_constructor_with_the_same_default(
    configs: Composer, name: str
) -> None:
    target = shipped.target("eval", name)
    options = _parameters(get_class(target))
    for given_elsewhere in ("cache", "model", "dataset"):  # shared by the suite; for use by hand
        options.pop(given_elsewhere, None)
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    assert OmegaConf.to_container(configs.compose([f"eval={name}"]).eval) == {name: {"_target_": target, **options}}


@pytest.mark.parametrize("choice", shipped.choices(CONF, "schedule"))
def test_every_schedule_is_one_that_exists(configs: Composer, choice: str) -> None:
    from rcc.cascade.schedule import Schedule

    schedule = Schedule(**configs.compose([f"schedule={choice}"]).schedule)
    assert schedule.rounds == 1 if choice == "one_shot" else schedule.curve == choice


def test_the_specification_is_the_literal_recipe(configs: Composer) -> None:
    cfg = configs.compose(["experiment=specification"])
    assert list(cfg.stage) == ["dare", "nullu", "alpha"]
    assert (cfg.stage.dare.score, cfg.stage.dare.rescale) == ("magnitude", "dare")
    assert cfg.stage.alpha.repair == "none"
    assert (cfg.stage.alpha.learning_rate, cfg.stage.alpha.num_epochs) == (0.001, 10)
    assert cfg.schedule.rounds == 1
