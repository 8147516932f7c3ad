"""The files of sentence-transformers: read to what they say, written as the library has them, refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rcc.errors import UserError
from rcc.models.transformers.sentence_files import (
    LENGTH,
    MODULES,
    POOLED_BY,
    POOLING,
    PROMPTS,
    SentenceSettings,
    is_sentence_encoder,
    read_sentence_settings,
)

TYPE = "sentence_transformers.models."


def written(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def modules(*kinds: str, path: str = "") -> list[dict[str, str]]:
    return [{"path": path if place == 0 else str(place), "type": TYPE + kind} for place, kind in enumerate(kinds)]


def test_nothing_said_is_the_mean_normalised_and_said_to_be_assumed(tmp_path: Path) -> None:
    found = read_sentence_settings(str(tmp_path))
    assert found == SentenceSettings(("mean",), True, None, False, {}, None, "cosine", assumed=True)
    assert not is_sentence_encoder(str(tmp_path))


def test_what_the_files_say_is_read(tmp_path: Path) -> None:
    files = {
        MODULES: modules("Transformer", "Pooling"),
        POOLING: {"word_embedding_dimension": 32, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True},
        LENGTH: {"max_seq_length": 128, "do_lower_case": True},
        PROMPTS: {
            "prompts": {"query": "query: ", "passage": "passage: "},
            "default_prompt_name": "passage",
            "similarity_fn_name": "dot",
        },
    }
    found = read_sentence_settings(str(written(tmp_path, files)))
    prompts = {"query": "query: ", "passage": "passage: "}
    assert found == SentenceSettings(("first", "max"), False, 128, True, prompts, "passage", "dot")
    assert is_sentence_encoder(str(tmp_path))


@pytest.mark.parametrize(("key", "way"), list(POOLED_BY.items()))
@pytest.mark.parametrize("normalise", [True, False])
def test_what_is_written_is_read_again(key: str, way: str, normalise: bool, tmp_path: Path) -> None:
    settings = SentenceSettings((way,), normalise, 7, False, {"a": "b: "}, "a", "cosine")
    settings.write(tmp_path, 32)
    assert read_sentence_settings(str(tmp_path)) == settings
    assert json.loads((tmp_path / POOLING).read_text())[key] is True
    kinds = [each["type"] for each in json.loads((tmp_path / MODULES).read_text())]
    assert kinds == [TYPE + kind for kind in ["Transformer", "Pooling", "Normalize"][: 2 + normalise]]
    first = {path: (tmp_path / path).read_bytes() for path in (MODULES, POOLING, LENGTH, PROMPTS)}
    replace(settings).write(tmp_path, 32)
    assert first == {path: (tmp_path / path).read_bytes() for path in first}


def test_poolings_under_the_name_of_later_versions_of_the_library(tmp_path: Path) -> None:
    read = lambda mode: read_sentence_settings(str(written(tmp_path, {POOLING: {"pooling_mode": mode}}))).pooling  # noqa: E731
    assert [read("cls"), read("weightedmean"), read(["mean", "max"])] == [
        ("first",),
        ("weighted_mean",),
        ("max", "mean"),
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({MODULES: modules("Transformer", "Pooling", "Dense", "Normalize")}, "names Dense, which is not handled here"),
        ({MODULES: modules("Transformer", "Pooling", path="0_Transformer")}, r"in '0_Transformer'.*give that folder"),
        ({MODULES: modules("Pooling", "Transformer")}, "has Pooling, Transformer, in that order"),
        ({MODULES: {"a": 1}}, "is no list of modules with their type"),
        ({MODULES: "[" * 100_000}, "is damaged: it is not JSON"),
        ({POOLING: {"pooling_mode_mean_tokens": False}}, r"chooses no pooling\. Set one of pooling_mode_cls_token"),
        ({POOLING: {"pooling_mode_attention": True}}, "asks for pooling_mode_attention, a pooling that is not known"),
        ({POOLING: {"pooling_mode": "lastword"}}, "asks for lastword"),
        ({POOLING: {"pooling_mode": "mean", "include_prompt": False}}, "include_prompt is false"),
        ({LENGTH: {"max_seq_length": -1}}, "max_seq_length is -1"),
        ({LENGTH: {"do_lower_case": "no"}}, "do_lower_case is 'no'"),
        ({PROMPTS: {"prompts": {"query": 3}}}, "prompts must map up to 256 names to texts"),
        ({PROMPTS: {"prompts": {"q": "a"}, "default_prompt_name": "p"}}, "default_prompt_name is 'p', and the"),
        ({PROMPTS: {"similarity_fn_name": 3}}, "similarity_fn_name is 3"),
    ],
)  # fmt: skip
def test_what_is_not_handled_is_refused_by_name(files: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read_sentence_settings(str(written(tmp_path, files)))


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    files = {MODULES: modules("Transformer", "Dense"), POOLING: {}, LENGTH: {"max_seq_length": 0, "do_lower_case": 1}}
    with pytest.raises(UserError) as error:
        read_sentence_settings(str(written(tmp_path, {**files, POOLING: {"pooling_mode": 3}})))
    assert len(error.value.problems) == 4
