"""Paths and free text of a command line: everything after the first '=' is the value."""

from __future__ import annotations

import shlex

import pytest

from rcc.composing.composition import Composer
from rcc.composing.overrides import verbatim

ODD = [
    "a dog, running", "year>=2020", "it's here", "[draft] x", "runs/a=1,b=2", "who? (me)", "größer é", "#1", '12" disc',
    "{a: 1}", "a  b ", "back\\slash", "x: y", "-1,5",
]  # fmt: skip


@pytest.mark.parametrize("key", ["model.path", "data.path", "artifact"])
@pytest.mark.parametrize("value", ODD)
def test_free_text_comes_through_as_it_was_typed(configs: Composer, key: str, value: str) -> None:
    group = {
        "model.path": ["model=clip"],
        "data.path": ["data=flickr8k", "eval=retrieval"],
        "artifact": ["job=evaluate"],
    }
    cfg = configs.compose([*group[key], verbatim(f"{key}={value}")])
    place, _, name = key.rpartition(".")
    assert (cfg[place] if place else cfg)[name] == value


@pytest.mark.parametrize(
    "text",
    [
        "artifact=[dense,run/artifact]", "model.path='my model'", 'data.path="a, b"', "model.path=plain/path-1.2",
        "hydra.run.dir=runs/${hydra.job.num}", "stage.dare.target_sparsity=0.3,0.5", "model.path=~/model", "seed=1",
    ],
)  # fmt: skip
def test_what_says_what_it_means_in_the_grammar_is_left(text: str) -> None:
    assert verbatim(text) == text


def test_what_was_quoted_once_is_quoted_once() -> None:
    (word,) = shlex.split(shlex.join([verbatim("model.path=a, 'b'")]))
    assert verbatim(word) == word
