"""Image processors and tokenizers of a checkpoint: refused where they are not the model's, saved as the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPImageProcessorPil, CLIPTokenizerFast

from rcc.atomic import disk_errors
from rcc.errors import UserError, WorkError
from rcc.models.transformers.clip import CLIPWrapper
from rcc.models.transformers.processor_files import (
    check_end,
    check_end_is_highest,
    load_image_processor,
    load_tokenizer,
    rewrite,
)

SHAPE = (3, 32, 32)


@pytest.fixture
def checkpoint(clip_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_checkpoint, tmp_path / "clip"))


def test_an_image_processor_makes_pixels_of_the_models_shape(checkpoint: Path) -> None:
    processor = load_image_processor(str(checkpoint), CLIPImageProcessorPil, SHAPE)
    assert isinstance(processor, CLIPImageProcessorPil)
    with pytest.raises(UserError, match="makes pixels of 3 × 32 × 32 and the model takes 3 × 16 × 32"):
        load_image_processor(str(checkpoint), CLIPImageProcessorPil, (3, 16, 32))


@pytest.mark.parametrize("content", [None, "{", '{"size": "large"}'])
def test_an_image_processor_without_a_sound_file_is_refused_with_what_it_needs(
    checkpoint: Path, content: str | None
) -> None:
    file = checkpoint / "preprocessor_config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(UserError, match=r"preprocessor_config\.json"):
        load_image_processor(str(checkpoint), CLIPImageProcessorPil, SHAPE)


def test_a_tokenizer_may_have_as_many_tokens_as_the_model_embeds_and_no_more(checkpoint: Path) -> None:
    tokens = len(load_tokenizer(str(checkpoint), CLIPTokenizerFast, 10**6))
    assert len(load_tokenizer(str(checkpoint), CLIPTokenizerFast, tokens)) == tokens
    with pytest.raises(UserError, match=f"the tokenizer has {tokens} tokens and the model embeds {tokens - 1}"):
        load_tokenizer(str(checkpoint), CLIPTokenizerFast, tokens - 1)


def test_a_tokenizer_whose_vocabulary_is_missing_is_refused_and_not_made_up(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="lacks a usable image processor or tokenizer"):
        load_tokenizer(str(checkpoint), CLIPTokenizerFast, 10**6)


def test_another_end_of_texts_than_the_models_is_refused_with_both() -> None:
    check_end("some/model", 2, 2)
    with pytest.raises(UserError, match="ends a text with token 3 and the model looks for 2"):
        check_end("some/model", 3, 2)


def test_tokens_after_the_end_are_refused_by_name_where_the_end_is_the_highest(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(str(checkpoint), CLIPTokenizerFast, 10**6)
    check_end_is_highest("some/model", tokenizer)
    tokenizer.add_tokens(["<my-dog>", "<my-cat>"])
    with pytest.raises(UserError, match=r"has tokens after it: '<my-cat>', '<my-dog>'.*has eos_token_id 2"):
        check_end_is_highest("some/model", tokenizer)


@pytest.mark.parametrize("added", [False, True])
def test_a_clip_with_the_legacy_end_loads_unless_tokens_come_after_the_end(checkpoint: Path, added: bool) -> None:
    file = checkpoint / "config.json"
    config = json.loads(file.read_text())
    config["text_config"] |= {"eos_token_id": 2}
    config["text_config"]["vocab_size"] += 1
    file.write_text(json.dumps(config))
    if added:
        tokenizer = CLIPTokenizerFast.from_pretrained(checkpoint)
        tokenizer.add_tokens(["<my-dog>"])
        tokenizer.save_pretrained(checkpoint)
        with pytest.raises(UserError, match="has tokens after it: '<my-dog>'"):
            CLIPWrapper.skeleton(checkpoint)
    else:
        assert CLIPWrapper.skeleton(checkpoint).tokenizer is not None


def test_keys_are_taken_out_at_every_level_and_the_rest_is_sorted(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"b": {"dtype": "float16", "z": 1, "a": 2}, "dtype": "float32", "a": [{"dtype": 1}]}))
    rewrite(file, ("dtype",))
    assert file.read_text() == json.dumps({"a": [{"dtype": 1}], "b": {"a": 2, "z": 1}}, indent=2) + "\n"


def test_saved_files_are_the_same_bytes_whatever_the_model_was_used_for(
    clip: CLIPWrapper, clip_checkpoint: Path, tmp_path: Path
) -> None:
    fresh, used, again = tmp_path / "fresh", tmp_path / "used", tmp_path / "again"
    clip.save_files(fresh)
    clip.encode_text(["a", "a photo of the digit seven " * 9])
    clip.save_files(used)
    CLIPWrapper.skeleton(used).save_files(again)
    names = ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in fresh.iterdir()) == names
    for name in names:
        expected = (clip_checkpoint / name).read_bytes()
        assert [(place / name).read_bytes() for place in (fresh, used, again)] == [expected] * 3
        assert str(tmp_path).encode() not in expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_disk_that_is_full_is_told_alike_whoever_writes_the_file(clip_checkpoint: Path, tmp_path: Path, name: str):
    model = CLIPWrapper.load(clip_checkpoint, device="cpu")
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(WorkError, match=r"cannot write .*No space left on device"), disk_errors(tmp_path):
        model.save_files(tmp_path)
