"""Configurations of strangers: what they may not name, and sizes and types that are refused by file and key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rcc.errors import UserError
from rcc.limits import limits
from rcc.models.transformers.clip import CLIPWrapper
from rcc.models.transformers.configuration import check_image_sizes, without_foreign_keys


@pytest.fixture
def checkpoint(clip_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_checkpoint, tmp_path / "clip"))


def change(file: Path, key: str, value: Any) -> None:
    content = json.loads(file.read_text())
    *outer, last = key.split(".")
    inner = content
    for each in outer:
        inner = inner[each]
    inner[last] = value
    file.write_text(json.dumps(content))


def refused(directory: Path, reason: str) -> None:
    for read in (CLIPWrapper.load, CLIPWrapper.skeleton):
        with pytest.raises(UserError, match=reason):
            read(directory)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("vision_config.hidden_size", "32", r"config\.json: vision_config\.hidden_size is '32'; it must be a whole"),
        ("vision_config.hidden_size", -1, r"vision_config\.hidden_size is -1; it must lie between 1 and 131072\."),
        ("vision_config.hidden_size", 33, r"config\.json describes no CLIPModel|is no CLIPConfig"),
        ("vision_config.num_hidden_layers", 10**9, r"num_hidden_layers is 1000000000; .*limits\.layers"),
        ("text_config.vocab_size", 10**13, r"text_config\.vocab_size is 10000000000000; .*limits\.tokens"),
        ("text_config.max_position_embeddings", True, "max_position_embeddings is True; it must be a whole"),
        ("vision_config.image_size", [32, 10**6], r"vision_config\.image_size is 1000000; .*limits\.image_side"),
        ("vision_config.image_size", [32], r"vision_config\.image_size is \[32\]; it must be a whole number"),
        ("vision_config.hidden_act", "geluu", r"vision_config\.hidden_act: unknown activation 'geluu'. Did you mean"),
        ("text_config", 3, "config.json"),
        ("vision_config.layer_norm_eps", "small", r"config\.json is no CLIPConfig: .*layer_norm_eps"),
        ("quantization_config", {"bits": 4}, "quantization_config: its weights are quantised"),
        ("architectures", 7, "holds 7; this model needs"),
    ],
)
def test_a_wrong_value_is_refused_by_file_and_key(checkpoint: Path, key: str, value: Any, reason: str) -> None:
    change(checkpoint / "config.json", key, value)
    refused(checkpoint, reason)


def test_a_size_that_the_weights_do_not_justify_takes_no_memory(checkpoint: Path) -> None:
    change(checkpoint / "config.json", "text_config.vocab_size", 1 << 22)
    with pytest.raises(UserError, match=r"config\.json asks for \d+ values and the weights hold"):
        CLIPWrapper.load(checkpoint)


@pytest.mark.parametrize("key", ["size", "crop_size"])
def test_a_processor_of_huge_images_is_refused(checkpoint: Path, key: str) -> None:
    change(checkpoint / "preprocessor_config.json", key, {"height": 10**6, "width": 10**6})
    refused(checkpoint, rf"preprocessor_config\.json: {key}\.height is 1000000")


@pytest.mark.parametrize("value", [[1], "224", 224.5, True, [32, 32]])
def test_a_side_of_images_is_one_whole_number_under_its_name(checkpoint: Path, value: object) -> None:
    change(checkpoint / "preprocessor_config.json", "size", {"shortest_edge": value})
    refused(checkpoint, r"preprocessor_config\.json: size\.shortest_edge.* must be a whole number from 1 to")


def test_a_size_of_images_may_be_a_height_and_a_width(checkpoint: Path) -> None:
    change(checkpoint / "preprocessor_config.json", "crop_size", [32, 32])
    check_image_sizes(str(checkpoint))
    change(checkpoint / "preprocessor_config.json", "crop_size", [32, 10**6])
    refused(checkpoint, r"preprocessor_config\.json: crop_size is 1000000")


def test_keys_that_reach_foreign_code_are_dropped(checkpoint: Path) -> None:
    config = checkpoint / "config.json"
    change(config, "auto_map", {"AutoModel": "evil.py--Evil"})
    change(config, "_attn_implementation", "someone/kernel")
    change(config, "text_config._attn_implementation", "someone/kernel")
    change(config, "transformers_weights", "evil.bin")
    loaded = CLIPWrapper.load(checkpoint).module.config
    assert not hasattr(loaded, "auto_map")
    assert "someone" not in str(loaded._attn_implementation) + str(loaded.text_config._attn_implementation)


def test_foreign_keys_are_found_at_every_level() -> None:
    content = {"a": [{"auto_map": 1, "b": 2}], "experts_implementation": 3, "c": {"trust_remote_code": True}}
    assert without_foreign_keys(content) == {"a": [{"b": 2}], "c": {}}


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "pytorch_model.bin", "a/b.safetensors", 3])
def test_an_index_names_safetensors_files_beside_it_alone(checkpoint: Path, shard: Any) -> None:
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"logit_scale": shard}}))
    with pytest.raises(UserError, match="A shard must be a"):
        CLIPWrapper.load(checkpoint)


def test_a_device_in_place_of_a_file_is_refused(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer.json").symlink_to("/dev/zero")
    refused(checkpoint, r"tokenizer\.json is no regular file")


def test_a_limit_can_be_raised(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "layers", 1)
    refused(checkpoint, "num_hidden_layers is 2; it must lie between 1 and 1")
    monkeypatch.setattr(limits, "layers", 2)
    CLIPWrapper.skeleton(checkpoint)
