"""The dense model rewritten before its first stage: outputs stay, what is uncertain is left with its reason."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys.networks import ResNet
from transformers import (
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen2Config,
    Qwen2Model,
    ViTConfig,
    ViTModel,
)

import rcc
from rcc.artifact.contents import checksum
from rcc.cascade.preparation import move_biases_again, prepare
from rcc.errors import UserError, WorkError
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext


def trained(module: nn.Module) -> ModuleAdapter:
    """`module` with biases and statistics other than those it is made with."""
    torch.manual_seed(3)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_()
                part.running_var.uniform_(0.3, 2)
                if part.weight is not None:
                    part.weight.uniform_(0.5, 1.5)
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return ModuleAdapter(module)


IMAGES = {"x": torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def outputs(model: ModuleAdapter, batch: dict[str, Tensor]) -> Tensor:
    model.eval()
    with torch.no_grad():
        return next(iter(model.outputs(batch).values()))


def test_every_norm_behind_a_convolution_is_folded_and_outputs_stay() -> None:
    model = trained(ResNet())
    other = {"x": torch.randn(9, 3, 8, 8)}
    wanted = outputs(model, other)
    names = list(model.module.state_dict())
    facts = prepare(model, [IMAGES])
    torch.testing.assert_close(outputs(model, other), wanted, rtol=1e-4, atol=1e-5)
    assert facts.pop("output_change") < 1e-5
    # Four vectors of 8 and 16 channels, three norms of each, less the biases that the convolutions get.
    assert len(facts.pop("norms_folded")) == 6
    assert facts == {"values_gone": 3 * 4 * (8 + 16) - 3 * (8 + 16)}
    assert set(names) <= set(model.module.state_dict())
    assert prepare(model, [IMAGES]) == {}


class Preactivated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)
        self.bare = nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bare(self.conv(self.norm(x)).relu())


def test_a_norm_that_follows_no_layer_is_given_constant_statistics_alone() -> None:
    model = trained(Preactivated())
    wanted = outputs(model, IMAGES)
    facts = prepare(model, [IMAGES])
    torch.testing.assert_close(outputs(model, IMAGES), wanted, rtol=1e-5, atol=1e-5)
    assert (facts["norms_made_canonical"], facts["values_gone"]) == (["norm"], 6)
    assert facts["left_alone"] == {
        "norm": "not folded: what it is given is no layer's output",
        "bare": "what it is given is no layer's output",
    }


class Reading(nn.Module):
    """Looks at its norm's statistics, as no hook could see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.last = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        found = self.norm(self.conv(x)) + self.norm.running_mean[:, None, None]
        return self.last(self.other(found))


def test_a_rewriting_that_changes_outputs_is_undone_to_the_bit_and_the_others_stay() -> None:
    model = trained(Reading())
    before = copy.deepcopy(model.module.state_dict())
    wanted = outputs(model, IMAGES)
    facts = prepare(model, [IMAGES])
    assert facts["norms_folded"] == ["last"]
    assert facts["left_alone"]["norm"].startswith("rewriting it would change an output by")
    for name, tensor in model.module.state_dict().items():
        if name.startswith(("conv.", "norm.")):
            assert torch.equal(tensor, before[name])
    torch.testing.assert_close(outputs(model, IMAGES), wanted, rtol=1e-5, atol=1e-5)


def vision(**more: int) -> dict[str, int]:
    return {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, **more}


def pixels() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))}


def words() -> dict[str, Tensor]:
    ids = torch.randint(20, (3, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.ones(3, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: CLIPVisionModel(CLIPVisionConfig(**vision(image_size=8, patch_size=4))), pixels),
        (lambda: ViTModel(ViTConfig(**vision(image_size=8, patch_size=4))), pixels),
        (lambda: BertModel(BertConfig(vocab_size=20, **vision())), words),
    ],
    ids=["clip", "vit", "bert"],
)
def test_biases_of_keys_are_dropped_and_those_of_values_moved(make: Any, batch: Any) -> None:
    torch.manual_seed(0)
    model = trained(make())
    wanted = outputs(model, batch())
    facts = prepare(model, [batch()])
    assert (len(facts["key_biases_dropped"]), len(facts["value_biases_moved"])) == (2, 2)
    torch.testing.assert_close(outputs(model, batch()), wanted, rtol=1e-4, atol=1e-5)
    cleared = [n for n, p in model.module.named_parameters() if n.endswith("bias") and not p.any()]
    assert len(cleared) == 4
    assert facts["values_gone"] == 4 * 8
    assert prepare(model, [batch()]) == {}


def test_a_key_that_is_rotated_keeps_its_bias_and_heads_that_share_values_move_theirs() -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=20,
        num_key_value_heads=2,
        max_position_embeddings=16,
        **(vision() | {"num_attention_heads": 4, "hidden_size": 16}),
    )
    model = trained(Qwen2Model(config))
    wanted = outputs(model, words())
    facts = prepare(model, [words()])
    assert "key_biases_dropped" not in facts
    assert facts["value_biases_moved"] == ["layers.0.self_attn.v_proj", "layers.1.self_attn.v_proj"]
    assert sorted(facts["left_alone"]) == ["layers.0.self_attn.k_proj", "layers.1.self_attn.k_proj"]
    torch.testing.assert_close(outputs(model, words()), wanted, rtol=1e-4, atol=1e-4)


def test_torchs_own_attention_is_rewritten_once_it_is_open() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = trained(layer)
    batch = {"src": torch.randn(3, 5, 16)}
    wanted = outputs(model, batch)
    facts = prepare(model, [batch])
    assert facts["key_biases_dropped"] == ["self_attn.k_proj"]
    assert facts["value_biases_moved"] == ["self_attn.v_proj"]
    torch.testing.assert_close(outputs(model, batch), wanted, rtol=1e-4, atol=1e-5)


def test_biases_that_a_stage_settles_are_moved_again_without_a_change_of_outputs() -> None:
    torch.manual_seed(0)
    model = trained(CLIPVisionModel(CLIPVisionConfig(**vision(image_size=8, patch_size=4))))
    prepared = prepare(model, [pixels()])
    rcc.Quantizer(bits=6, rounding="nearest").apply(model, StageContext())
    settled = [unit for unit in model.units() if unit.name.endswith(("k_proj", "v_proj"))]
    for unit in settled:
        unit.write(replace(unit.read(), bias=torch.randn(8)))
    wanted = outputs(model, pixels())
    move_biases_again(model, prepared)
    torch.testing.assert_close(outputs(model, pixels()), wanted, rtol=1e-4, atol=1e-5)
    assert not any(bool(unit.read().bias.any()) for unit in settled)


def test_without_a_batch_nothing_is_touched() -> None:
    model = trained(ResNet())
    before = checksum(model.module)
    facts = prepare(model, None)
    assert set(facts["left_alone"].values()) == {"there is no calibration batch to look at"}
    assert checksum(model.module) == before


def pipeline(directory: Any = None, stages: Any = None, **options: Any) -> rcc.RCCPipeline:
    stages = stages or [rcc.DARECompressor(target_sparsity=0.5), rcc.Quantizer(bits=6)]
    return rcc.RCCPipeline(stages, performance_threshold=0.01, directory=directory, **options)


def score(model: Any) -> float:
    return 1 + float(outputs(model, IMAGES).abs().mean())


class Broken(rcc.Quantizer):
    def apply(self, *args: Any) -> Any:
        raise WorkError("the lights went out")


def test_a_run_starts_from_the_folded_model_and_a_resumed_one_ends_in_the_same_bits(tmp_path: Any) -> None:
    models = [trained(ResNet()) for _ in range(3)]
    whole, broken = (
        pipeline(tmp_path / "whole"),
        pipeline(tmp_path / "cut", [rcc.DARECompressor(target_sparsity=0.5), Broken(bits=6)]),
    )
    whole.run(models[0], score, [IMAGES])
    assert len(whole.history.dense.prepared["norms_folded"]) == 6
    with pytest.raises(WorkError, match="the lights went out"):
        broken.run(models[1], score, [IMAGES])
    resumed = pipeline(tmp_path / "cut")
    resumed.run(models[2], score, [IMAGES], resume=True)
    assert checksum(models[2].module) == checksum(models[0].module)
    assert resumed.history.dense.prepared == whole.history.dense.prepared
    whole.rollback_to_dense()
    assert not bool(models[0].module.blocks[0].bn1.running_mean.any())


def test_fold_false_leaves_the_dense_model_as_it_came_and_is_part_of_what_a_run_is(tmp_path: Any) -> None:
    model = trained(ResNet())
    mean = model.module.blocks[0].bn1.running_mean.clone()
    made = pipeline(tmp_path, fold=False)
    made.run(model, score, [IMAGES])
    assert made.history.dense.prepared == {}
    assert torch.equal(model.module.blocks[0].bn1.running_mean, mean)
    with pytest.raises(UserError, match="fold: recorded False, asked True"):
        pipeline(tmp_path).run(trained(ResNet()), score, [IMAGES], resume=True)
    with pytest.raises(UserError, match="fold"):
        pipeline(fold="yes")


def test_an_artifact_of_a_folded_model_reloads_into_the_network_as_it_is_built(tmp_path: Any) -> None:
    model = trained(ResNet())
    prepare(model, [IMAGES])
    rcc.save(model, tmp_path / "small", dtype="float32")
    again = rcc.load(tmp_path / "small", skeleton=ResNet())
    assert torch.equal(outputs(again, IMAGES), outputs(model, IMAGES))
