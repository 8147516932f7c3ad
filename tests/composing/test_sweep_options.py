"""Options reach the jobs of a sweep that have a place for them, and no others."""

from __future__ import annotations

import pytest

from rcc.composing.composition import Composer, own
from rcc.composing.sweep_options import forced, has, heard, option_of


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("stage.dare.scope=layer", "stage.dare.scope"),
        ("++model.target=a:b", "model.target"),
        ("model=clip", ""),
        ("seed=1", ""),
        ("hydra.run.dir=x", ""),
        ("stage@x.y=dare", ""),
    ],
)
def test_an_option_is_known_by_its_path(text: str, option: str) -> None:
    assert option_of(text) == option


def test_a_config_has_a_place_for_its_options_and_for_what_is_below_an_empty_one(configs: Composer) -> None:
    cfg = configs.compose(["model=module", "stage=dare+alpha"])
    assert has(cfg, "stage.dare.scope")
    assert has(cfg, "model.arguments.width")
    assert has(cfg, "stage.alpha.task_weights.a")
    assert not has(cfg, "stage.nullu.metric")
    assert not has(cfg, "model.gradient_checkpointing")


def test_what_the_fixed_choices_have_no_place_for_is_forced_and_heard_where_it_belongs(configs: Composer) -> None:
    texts = [
        "stage=dare,nullu+dare",
        "stage.nullu.metric=plain",
        "stage.dare.scope=layer",
        "data=cifar10",
        "data.path=x",
    ]
    through = forced(texts, configs)
    assert through == [texts[0], "++stage.nullu.metric=plain", *texts[2:]]
    for choice, labels in (("dare", ["dare"]), ("nullu+dare", ["nullu", "dare"])):
        job = [f"stage={choice}", *through[1:]]
        cfg = configs.compose(job)
        kept, said = heard(own(cfg), job, configs.shipped(cfg.hydra.runtime.choices))
        assert list(kept.stage) == labels
        assert ("stage.nullu.metric=plain" in said) == ("nullu" in labels)
        assert kept.stage.dare.scope == "layer"
        assert all(not text.startswith("+") for text in said)
