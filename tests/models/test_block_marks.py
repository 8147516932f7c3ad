"""Marks for activation checkpointing: set where a model has blocks, refused where they would do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import nn
from toys.networks import ResNet
from transformers import CLIPVisionConfig, CLIPVisionModel, ResNetConfig, ResNetModel

from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.jobs.source import load_source
from rcc.layers.activation_checkpointing import marked_blocks
from rcc.models.block_marks import mark_blocks
from rcc.models.registry import load_model


def test_the_blocks_of_a_tower_are_marked_and_its_embeddings_ask_for_no_gradient() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "image_size": 8, "patch_size": 4}
    tower = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=3, **sizes)).eval().requires_grad_(False)
    mark_blocks(tower, "model 'clip_vision'")
    assert [type(block).__name__ for block in marked_blocks(tower)] == ["CLIPEncoderLayer"] * 3
    assert not tower(torch.ones(1, 3, 8, 8)).pooler_output.requires_grad


@pytest.mark.parametrize(
    "module",
    [nn.Sequential(nn.Linear(2, 2)), ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1]))],
    ids=["torch", "transformers"],
)
def test_a_model_without_such_blocks_is_refused_with_what_to_do(module: nn.Module) -> None:
    with pytest.raises(UserError, match=r"model 'mine': gradient_checkpointing=true has no effect, .*batch_size"):
        mark_blocks(module, "model 'mine'")


def test_a_network_of_the_users_own_and_its_artifact_refuse_the_option(tmp_path: Path) -> None:
    save_model(ResNet(), str(tmp_path / "weights.safetensors"))
    options = {"target": "toys.networks:ResNet", "path": tmp_path / "weights.safetensors", "device": "cpu"}
    with pytest.raises(UserError, match="gradient_checkpointing"):
        load_model("module", **options, gradient_checkpointing=True)
    write_artifact(load_model("module", **options), tmp_path / "artifact", dtype="float32")
    options = {"name": "module", "path": str(tmp_path / "artifact"), "target": "toys.networks:ResNet"}
    with pytest.raises(UserError, match="gradient_checkpointing=true has no effect, ResNet has no blocks"):
        load_source({**options, "gradient_checkpointing": True}, "cpu")
