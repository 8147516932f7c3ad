"""What may not be loaded, and what the error says about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BlipConfig, CLIPTextConfig, CLIPTextModel

from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper

Alter = Callable[..., Path]
TENSOR = "vision_model.encoder.layers.1.mlp.fc2.weight"


def refusal(directory: Path | str) -> str:
    with pytest.raises(UserError) as error:
        CLIPWrapper.load(directory, device="cpu")
    return str(error.value)


def test_a_text_tower_alone_is_refused_by_its_name(tmp_path: Path) -> None:
    config = CLIPTextConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    CLIPTextModel(config).save_pretrained(tmp_path)
    assert "holds CLIPTextModel" in refusal(tmp_path)


def test_a_blip_directory_is_refused_by_its_name(tmp_path: Path) -> None:
    BlipConfig(architectures=["BlipForConditionalGeneration"]).save_pretrained(tmp_path)
    message = refusal(tmp_path)
    assert "holds BlipForConditionalGeneration; this model needs architectures: ['CLIPModel']" in message
    assert message.endswith(f"Use model=blip model.path={tmp_path}.")
    with pytest.raises(UserError, match="BlipForConditionalGeneration"):
        CLIPWrapper.skeleton(tmp_path)


def test_a_config_that_names_no_architecture_goes_by_its_model_type(altered_checkpoint: Alter) -> None:
    other = {"architectures": None, "model_type": "siglip"}
    assert "holds no architecture" in refusal(altered_checkpoint(config=other))


def test_a_config_of_the_right_model_type_may_name_no_architecture(altered_checkpoint: Alter) -> None:
    assert CLIPWrapper(altered_checkpoint(config={"architectures": None}), device="cpu").name == "clip"


def test_a_missing_tensor_is_named_and_not_made_up(altered_checkpoint: Alter) -> None:
    message = refusal(altered_checkpoint(lambda weights: weights.pop(TENSOR)))
    assert f"lacks the weights {TENSOR}" in message


def test_an_unexpected_tensor_is_named(altered_checkpoint: Alter) -> None:
    message = refusal(altered_checkpoint(lambda weights: weights.update({"head.weight": torch.ones(2)})))
    assert "does not have: head.weight" in message


def test_position_indices_of_old_checkpoints_are_accepted(altered_checkpoint: Alter) -> None:
    old = {"text_model.embeddings.position_ids": torch.arange(16)[None]}
    assert CLIPWrapper.load(altered_checkpoint(lambda weights: weights.update(old)), device="cpu")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(altered_checkpoint: Alter) -> None:
    message = refusal(altered_checkpoint(lambda weights: weights.update({TENSOR: torch.ones(32, 63)})))
    assert f"{TENSOR} has shape (32, 63) and the config asks for (32, 64)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(altered_checkpoint: Alter, value: float) -> None:
    message = refusal(altered_checkpoint(lambda weights: weights[TENSOR][3, 5:6].fill_(value)))
    assert f"NaN or infinite weights in {TENSOR};" in message


def test_a_truncated_file_is_refused(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "could not be read" in refusal(directory)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    message = refusal(directory)
    assert "holds its weights as pytorch_model.bin and not as safetensors" in message
    assert f"CLIPModel as M; M.from_pretrained('{directory}').save_pretrained('{directory}')" in message


def test_a_directory_without_weights_is_refused(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    (directory / "model.safetensors").unlink()
    assert "holds no weights" in refusal(directory)


def test_an_artifact_is_no_checkpoint_and_the_message_says_how_to_load_it(clip: CLIPWrapper, tmp_path: Path) -> None:
    write_artifact(clip, tmp_path / "artifact")
    assert f"load it with rcc.load('{tmp_path / 'artifact'}')" in refusal(tmp_path / "artifact")


def test_a_missing_tokenizer_is_refused(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    assert "lacks a usable image processor or tokenizer" in refusal(directory)


def test_a_tokenizer_of_another_model_is_refused(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    config = json.loads((directory / "config.json").read_text())
    text = config["text_config"]
    (directory / "config.json").write_text(json.dumps(config | {"text_config": text | {"eos_token_id": 7}}))
    assert f"ends a text with token {text['eos_token_id']} and the model looks for 7" in refusal(directory)
    (directory / "config.json").write_text(json.dumps(config | {"text_config": text | {"vocab_size": 9}}))
    assert f"has {text['vocab_size']} tokens and the model embeds 9" in refusal(directory)


def test_a_missing_image_processor_is_refused(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    (directory / "preprocessor_config.json").unlink()
    assert "lacks a usable image processor or tokenizer" in refusal(directory)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["/no/such/place", "./nowhere", "~/nowhere-at-all", "a/b/c", ""])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_name(path: str) -> None:
    assert f"model.path '{path}' does not exist" in refusal(path)


def test_a_file_in_place_of_a_directory_is_refused(clip_checkpoint: Path) -> None:
    assert "is not a directory" in refusal(clip_checkpoint / "model.safetensors")


def test_sharded_weights_are_read(clip_checkpoint: Path, tmp_path: Path) -> None:
    whole = CLIPWrapper.load(clip_checkpoint, device="cpu")
    shards = tmp_path / "shards"
    whole.module.save_pretrained(shards, max_shard_size="100KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(clip_checkpoint / name, shards)
    weights = CLIPWrapper.load(shards, device="cpu").module.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.module.state_dict().items())


def test_the_processor_may_be_stored_as_one_file(altered_checkpoint: Alter) -> None:
    directory = altered_checkpoint()
    settings = json.loads((directory / "preprocessor_config.json").read_text())
    (directory / "preprocessor_config.json").unlink()
    (directory / "processor_config.json").write_text(
        json.dumps({"image_processor": settings, "processor_class": "CLIPProcessor"})
    )
    clip = CLIPWrapper.load(directory, device="cpu")
    assert list(clip.image_processor.image_mean) == [0.5, 0.5, 0.5]


def test_a_prefix_that_a_wrapper_put_before_all_names_is_left_away_and_said(
    clip_checkpoint: Path, altered_checkpoint: Alter, caplog: pytest.LogCaptureFixture
) -> None:
    def wrap(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[f"module._orig_mod.{name}"] = weights.pop(name)

    expected = CLIPWrapper.load(clip_checkpoint, device="cpu").module.state_dict()
    found = CLIPWrapper.load(altered_checkpoint(wrap), device="cpu").module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert "every name begins with 'module._orig_mod.'" in caplog.text


def test_a_prefix_that_some_names_lack_is_no_wrappers(altered_checkpoint: Alter) -> None:
    message = refusal(altered_checkpoint(lambda weights: weights.update({f"module.{TENSOR}": weights.pop(TENSOR)})))
    assert f"lacks the weights {TENSOR}" in message
