"""Paths and free text of a command line: everything after the first '=' is the value."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rcc.composing.composition import Composer
from rcc.composing.overrides import of_the_logger, quoted, unquoted, verbatim

ODD = [
    "ü", "größe/modell",
    "a dog, running", "year>=2020", "it's here", "[draft] x", "runs/a=1,b=2", "who? (me)", "größer é", "#1", '12" disc',
    "{a: 1}", "a  b ", "back\\slash", "x: y", "-1,5",
]  # fmt: skip


@pytest.mark.parametrize(
    "key",
    ["model.path", "data.path", "artifact", "resume", "stage.dare.base", "eval.retrieval.embeddings", "data.images"],
)
@pytest.mark.parametrize("value", ODD)
def test_free_text_comes_through_as_it_was_typed(configs: Composer, key: str, value: str) -> None:
    group = {
        "model.path": ["model=clip"],
        "data.path": ["data=flickr8k", "eval=retrieval"],
        "artifact": ["job=evaluate"],
        "eval.retrieval.embeddings": ["eval=retrieval"],
        "data.images": ["data=image_text", "eval=retrieval"],
    }
    cfg = configs.compose([*group.get(key, []), verbatim(f"{key}={value}")])
    assert OmegaConf.select(cfg, key) == value


NAMES = st.text(" '\"=,#[]{}()éü漢&;!~%@+abc", min_size=1, max_size=8)


@given(NAMES.filter(lambda name: name[0] not in "~'\"" and not name.isspace()))
def test_any_name_of_a_directory_is_one_value_of_the_grammar(name: str) -> None:
    (read,) = OverridesParser.create().parse_overrides([verbatim(f"model.path={name}")])
    assert read.value() == name or str(read.value()) == name.strip()


@pytest.mark.parametrize(
    "text",
    [
        "artifact=[dense,run/artifact]", "model.path='my model'", 'data.path="a, b"', "model.path=plain/path-1.2",
        "hydra.run.dir=runs/${hydra.job.num}", "stage.dare.target_sparsity=0.3,0.5", "model.path=~/model", "seed=1",
    ],
)  # fmt: skip
def test_what_says_what_it_means_in_the_grammar_is_left(text: str) -> None:
    assert verbatim(text) == text


def test_a_directory_whose_name_looks_like_a_list_is_that_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verbatim("artifact=[a,b]") == "artifact=[a,b]"
    (tmp_path / "[a,b]").mkdir()
    assert verbatim("artifact=[a,b]") == 'artifact="[a,b]"'


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_quotes_are_taken_off_as_they_were_put_on(text: str) -> None:
    assert unquoted(quoted(text)) == text


@pytest.mark.parametrize("text", ["it's", "run'", '"', "", "'a\""])
def test_a_quote_that_is_part_of_a_name_stays(text: str) -> None:
    assert unquoted(text) == text


def test_what_was_quoted_once_is_quoted_once() -> None:
    (word,) = shlex.split(shlex.join([verbatim("model.path=a, 'b'")]))
    assert verbatim(word) == word


@pytest.mark.parametrize(
    ("texts", "spelled"),
    [
        (["logger=wandb", "logger.mode=offline"], ["logger=wandb", "logger.wandb.mode=offline"]),
        (["logger.mode=offline", "logger=wandb"], ["logger.wandb.mode=offline", "logger=wandb"]),
        (["logger=wandb", "logger.wandb.mode=offline"], ["logger=wandb", "logger.wandb.mode=offline"]),
        (["logger=wandb+csv", "logger.mode=offline"], ["logger=wandb+csv", "logger.mode=offline"]),
        (["logger=wandb,local", "logger.mode=offline"], ["logger=wandb,local", "logger.mode=offline"]),
        (["logger.mode=offline"], ["logger.mode=offline"]),
        (["logger=mine", "logger.mine.a.b=1", "seed=1"], ["logger=mine", "logger.mine.a.b=1", "seed=1"]),
    ],
)
def test_an_option_of_the_only_logger_needs_no_label(texts: list[str], spelled: list[str]) -> None:
    assert of_the_logger(texts) == spelled
