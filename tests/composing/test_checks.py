"""All that is wrong with a command line is told at once, each with what exists and the nearest name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from omegaconf import DictConfig

from rcc.composing.checks import problems
from rcc.composing.composition import Composer, composer
from rcc.composing.folders import folder_of

STAGES = "alpha, dare, gradual, nullu, quant, recover"
MODELS = (
    "auto, blip, blip_retrieval, clip, clip_tiny, clip_vision, module, open_clip, siglip, text_encoder,"
    " transformers, vit, whisper"
)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["stage=nullu+dare", "stage.nullu.rank_reduction_ratio=null"],
        ["model=clip", "model.path=/some/where", "device=cpu"],
        ["stage.dare.include=['*.mlp.*']", "stage.dare.target_sparsity=0"],
        ["stage=dare+alpha", "stage.alpha.task_weights.a=0.5"],
        ["job=evaluate", "artifact=outputs/2026-11-20/10-00-00/artifact"],
        ["gate.threshold=1", "threads=2", "experiment=specification", "debug=quick"],
        ["hydra.run.dir=somewhere"],
        ["~experiment"],
    ],
)
def test_what_can_be_composed_has_no_problem(configs: Composer, texts: list[str]) -> None:
    assert problems(texts, configs) == []


@pytest.mark.parametrize(
    ("texts", "most"),
    [
        ([], 1),
        (["seed=1"], 2),
        (["job=evaluate", "threads=1", "hydra.run.dir=run"], 3),
        (["debug=quick", "stage=dare", "gate.threshold=0.9", "hydra.run.dir=run"], 3),
    ],
)
def test_a_right_command_is_composed_as_it_is_its_job_and_its_choices_as_shipped_and_nothing_more(
    texts: list[str], most: int
) -> None:
    with composer() as configs:
        assert problems(texts, configs) == []
        assert not folder_of(texts, configs, multirun=False).dry
        assert len(configs._composed) == most


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "stage=dar",
            "unknown stage 'dar'. Did you mean 'dare'? Available: alpha, dare, gradual, nullu, quant, recover.",
        ),
        ("stage=", "stage= names no stage."),
        ("stage=null", "stage= names no stage."),
        ("stage=dare+", "stage=dare+ has an empty name."),
        ("stage=[dare,nullu]", "join stages with '+'"),
        (
            "model=clpi",
            f"unknown model 'clpi'. Did you mean 'clip'? Available: {MODELS}.",
        ),
        ("eval=zero", "unknown evaluator 'zero'. Did you mean 'zero_shot'?"),
        ("eval=", "eval= names no evaluator. Join one or more names with '+', as in eval=zero_shot+efficiency."),
        ("eval=zero_shot+zero_shot", "eval=zero_shot+zero_shot names 'zero_shot' more than once"),
        ("eval=[zero_shot]", "join evaluators with '+'"),
        ("eval.batch_size=8", "no evaluator is labelled 'batch_size' in eval=zero_shot. Labels: zero_shot."),
        ("eval.zero_shot.batch=8", "Did you mean 'batch_size'? Available in eval.zero_shot:"),
        ("experiment=paretto", "unknown experiment 'paretto'. Did you mean 'pareto'?"),
        ("data=", "data= names no choice. Available: cifar10, cifar100, coco,"),
        ("modle=clip", "unknown option 'modle'. Did you mean 'model'?"),
        ("gate.treshold=1", "unknown option 'gate.treshold'. Did you mean 'threshold'? Available in gate:"),
        ("+gate.treshold=1", "unknown option 'gate.treshold'."),
        ("stage.dare.sparsity=1", "Did you mean 'target_sparsity'? Available in stage.dare: target_sparsity,"),
        ("stage.dare_2.scope=layer", "no stage is labelled 'dare_2' in stage=dare+quant."),
        ("gate.tries=abc", "gate.tries is 'abc'; it must be a whole number."),
        ("gate.tries=1.5", "gate.tries is 1.5; it must be a whole number."),
        ("gate.threshold=high", "gate.threshold is 'high'; it must be a number."),
        ("dry_run=maybe", "dry_run is 'maybe'; it must be true or false."),
        ("device=[a,b]", "device is ['a', 'b']; it must be one word or text"),
        ("data.path={a:b}", "unknown option 'data.path'"),
        ("gate=0.9", "gate is 0.9; it must be a set of options (threshold, tries,"),
        ("stage.dare=null", "stage.dare is None; it must be a set of options"),
        ("~gate.tries", "the option 'gate.tries' was taken away"),
        ("hydra.nonsense=1", "Could not override 'hydra.nonsense'"),
        ("data.path=~/data", "no shell expands '~' there; write $HOME in its place"),
        ("artifact=[dense,~/run/artifact]", "no shell expands '~' there; write $HOME in its place"),
        ("hydra.run.dir=${a", "'${' begins an interpolation, as in ${oc.env:HOME}, and no '}' ends it"),
        ("nonsense", "cannot read 'nonsense': an argument is key=value"),
        ("model.path=a b(", "cannot read 'model.path=a b(': extraneous input '('"),
        ("stage=dare,nullu", "'stage=dare,nullu' holds several values; add -m"),
        ("experiment=pareto", "add -m to run it"),
    ],
)
def test_a_problem_is_told_in_one_sentence(configs: Composer, text: str, told: str) -> None:
    found = problems([text], configs)
    assert len(found) == 1
    assert told in found[0]
    assert "\n" not in found[0]


def test_all_problems_are_told_at_once(configs: Composer) -> None:
    asked = ["stage=dar+foo", "model=clp", "gate.treshold=1", "seed=x", "hydra.nonsense=1", "junk", "modle=1"]
    found = problems(asked, configs, deep=lambda cfg, choices: [f"deep check of {choices['model']}"])
    for part in ("'dar'", "'foo'", "'clp'", "treshold", "seed is 'x'", "nonsense", "'junk'", "'modle'"):
        assert sum(part in line for line in found) == 1, part
    assert found[-1] == "deep check of clip_tiny", "constructors are asked about all that could be composed"
    assert len(found) == 9


def test_options_of_a_choice_that_is_wrong_are_not_called_wrong_too(configs: Composer) -> None:
    found = problems(["model=clp", "model.path=/x", "stage=dare+foo", "stage.foo.x=1", "stage.dare.y=2"], configs)
    assert [line.split(".")[0] for line in found] == [
        "unknown model 'clp'",
        "unknown stage 'foo'",
        "unknown option 'stage",
    ]


def test_every_value_of_a_sweep_is_checked(configs: Composer) -> None:
    found = problems(["stage=dar,nullu,alph", "seed=1,a,b", "model=clip_tiny,clp"], configs, multirun=True)
    assert len(found) == 5


def test_an_option_of_a_stage_holds_in_every_job_of_a_sweep_that_has_the_stage(configs: Composer) -> None:
    seen = []

    def deep(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
        seen.append({label: node.get("rank_reduction_ratio") for label, node in cfg.stage.items()})
        return []

    texts = ["stage=dare+nullu,dare,nullu", "stage.nullu.rank_reduction_ratio=0.25"]
    assert problems(texts, configs, multirun=True, deep=deep) == []
    assert seen == [{"dare": None, "nullu": 0.25}, {"dare": None}, {"nullu": 0.25}]
    found = problems(["stage=dare,nullu", "stage.alpha.repair=none"], configs, multirun=True)
    assert {line.split(" in ")[0] for line in found} == {"no stage is labelled 'alpha'"}


def test_an_option_of_a_model_holds_in_every_job_of_a_sweep_that_has_the_model(configs: Composer) -> None:
    seen = []

    def deep(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
        seen.append((choices["model"], cfg.model.get("target"), cfg.model.get("arguments")))
        return []

    texts = ["model=clip_tiny,module", "model.target=mine:Network", "model.arguments.width=3"]
    assert problems(texts, configs, multirun=True, deep=deep) == []
    assert seen == [("clip_tiny", None, None), ("module", "mine:Network", {"width": 3})]
    found = problems(["model=clip_tiny,clip", "model.targt=x"], configs, multirun=True)
    assert all("unknown option 'model.targt'" in line for line in found)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["job=train", "stage=dare"], "stage=dare: job=train does not use 'stage', which belongs to job=compress."),
        (["teacher=clip_tiny"], "teacher=clip_tiny: job=compress does not use 'teacher', which belongs to job=train."),
        (["job=train", "logger=wandb"], "job=train does not use 'logger'"),
        (["job=evaluate", "trainer=recover"], "'trainer', which belongs to job=compress and job=train. Leave it out."),
        (["trainer.epochs=3"], "unknown option 'trainer.epochs': the chosen trainer has none. Take another trainer=."),
        (["artifact=somewhere"], "artifact=somewhere: job=compress does not use 'artifact'"),
        (["runtime=auto"], "which belongs to job=evaluate. Leave it out."),
        (["job=evaluate", "gate.threshold=0.9"], "job=evaluate does not use 'gate', which belongs to job=compress."),
        (
            ["job=evaluate", "resume=x"],
            "resume=x: job=evaluate has no steps to continue from;",
        ),
    ],
)
def test_a_setting_that_only_another_job_uses_is_refused(configs: Composer, texts: list[str], told: str) -> None:
    (found,) = problems(texts, configs)
    assert told in found


def test_a_preset_may_hold_settings_of_other_jobs(configs: Composer) -> None:
    assert problems(["job=evaluate", "debug=quick"], configs) == []
    assert problems(["job=train", "debug=quick"], configs) == []


def test_the_deep_check_sees_each_value_of_a_sweep_and_both_ends_of_an_interval(configs: Composer) -> None:
    seen = []

    def deep(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
        seen.append((list(cfg.stage), cfg.stage.dare.target_sparsity))
        return []

    texts = ["stage=dare,nullu+dare", "stage.dare.target_sparsity=0.1,0.2"]
    assert problems(texts, configs, multirun=True, deep=deep) == []
    assert seen == [(["dare"], 0.1), (["nullu", "dare"], 0.1), (["dare"], 0.2)]
    seen.clear()
    problems(["stage.dare.target_sparsity=interval(0.3,2.0)", "stage=dare"], configs, multirun=True, deep=deep)
    assert [sparsity for _, sparsity in seen] == [0.3, 2.0]


def test_the_search_space_of_an_experiment_is_checked_like_arguments(configs: Composer) -> None:
    assert problems(["experiment=pareto"], configs, multirun=True) == []
    assert problems(["experiment=order"], configs, multirun=True) == []
    assert problems(["experiment=pareto", "stage=nullu"], configs, multirun=True) == []  # of nullu alone, then
    found = problems(["experiment=pareto", "stage=nullu", "stage.dare.floor=0.1,0.2"], configs, multirun=True)
    assert found == ["no stage is labelled 'dare' in stage=nullu. Labels: nullu."]
    assert problems(["experiment=pareto", "hydra.sweeper.n_trials=3"], configs, multirun=True) == []


def test_a_job_of_a_sweep_can_be_resumed_on_its_own(configs: Composer) -> None:
    assert problems(["experiment=pareto", "stage=nullu+dare"], configs, resuming=True) == []


def test_what_an_experiment_file_gets_wrong_is_told_like_an_argument(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    write = (tmp_path / "experiment/mine.yaml").write_text
    write("# @package _global_\ngate:\n  treshold: 0.9\nstage:\n  dare_2:\n    scope: layer\nseed: abc\n")
    with composer(tmp_path) as configs:
        found = problems(["experiment=mine"], configs)
        assert [line.split(".")[0] for line in found] == [
            "no stage is labelled 'dare_2' in stage=dare+quant",
            "unknown option 'gate",
            "seed is 'abc'; it must be a whole number",
        ]
    write("# @package _global_\ndefaults:\n  - override /stage: dare+nulu\n")
    with composer(tmp_path) as configs:
        (found_one,) = problems(["experiment=mine"], configs)
        assert (
            found_one
            == "unknown stage 'nulu'. Did you mean 'nullu'? Available: alpha, dare, gradual, nullu, quant, recover."
        )
    write("# @package _global_\ndefaults:\n  - override /model: clp\n")
    with composer(tmp_path) as configs:
        (found_one,) = problems(["experiment=mine"], configs)
        assert found_one == f"unknown model 'clp'. Did you mean 'clip'? Available: {MODELS}."


def test_an_interpolation_that_leads_nowhere_is_told(configs: Composer) -> None:
    def deep(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
        return [str(cfg.seed)]

    (found,) = problems(["seed=${no.such.key}"], configs, deep=deep)
    assert "no.such.key" in found
