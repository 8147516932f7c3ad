"""Networks rcc was not written for: each matrix compressed right or left with its reason, and reloaded the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import rcc
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.dare import DARECompressor
from rcc.stages.nullu import NulluProjector
from rcc.stages.quant import Quantizer


def resnet() -> nn.Module:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return transformers.ResNetForImageClassification(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2, use_cache=False)
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    return transformers.BertForSequenceClassification(config)


def swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    return transformers.SwinForImageClassification(config)


class Decoder(nn.Module):
    """Codes to images, by transposed convolutions; with a table of its own that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(8, 4, 4))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.ConvTranspose2d(6, 3, 3, stride=2, output_padding=1),
        )  # fmt: skip

    def forward(self, codes: Tensor) -> Tensor:
        return self.up(codes[:, :, None, None] + self.start)  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])  # type: ignore[no-any-return]


def pixels(side: int) -> list[dict[str, Tensor]]:
    return [{"pixel_values": torch.randn(4, 3, side, side)} for _ in range(2)]


TOKENS = [{"input_ids": torch.randint(0, 40, (4, 10))} for _ in range(2)]
FOREIGN: dict[str, tuple[Any, Any]] = {
    "resnet": (resnet, pixels(32)),
    "gpt2": (gpt2, TOKENS),
    "bert": (bert, TOKENS),
    "swin": (swin, pixels(32)),
    "decoder": (Decoder, [{"codes": torch.randn(4, 8)} for _ in range(2)]),
    "lstm": (Recurrent, [{"x": torch.randn(4, 5, 6)} for _ in range(2)]),
}


def seeded(build: Any) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", FOREIGN)
def test_touched_and_left_are_all_matrix_values_and_the_artifact_reloads(name: str, tmp_path: Path) -> None:
    build, batches = FOREIGN[name]
    net = seeded(build)
    matrices = {id(parameter): parameter.numel() for parameter in net.parameters() if parameter.dim() > 1}
    adapter = ModuleAdapter(net)
    report = DARECompressor(target_sparsity=0.5, score="wanda").apply(adapter, StageContext(calibration=batches))
    account = report.account(adapter)
    assert account["touched"] + account["left"] == sum(matrices.values())
    assert account["touched"] > 0
    assert all(skipped.reason for skipped in report.skipped)
    for facts in report.touched.values():
        assert facts["pruned"] == round(0.5 * facts["stored"])
    rcc.save(adapter, tmp_path / "artifact")
    again = rcc.load(tmp_path / "artifact", skeleton=seeded(build))
    with torch.no_grad():
        for key, output in adapter.outputs(batches[0]).items():
            assert torch.equal(again.outputs(batches[0])[key], output)


def test_what_is_left_is_named_by_layer_with_its_reason() -> None:
    left = {name: reasons(name) for name in ("lstm", "decoder", "swin")}
    assert left["lstm"]["lstm"].startswith("the layer is recurrent")
    assert "a parameter of Decoder itself" in left["decoder"]["start"]
    table = "swin.encoder.layers.0.blocks.0.attention.self.relative_position_bias_table"
    assert any(table.split(".")[-1] in name for name in left["swin"])


def reasons(name: str) -> dict[str, str]:
    _, skipped = DARECompressor(target_sparsity=0.5).choose(ModuleAdapter(seeded(FOREIGN[name][0])))
    return {one.name: one.reason for one in skipped}


class Odd(nn.Module):
    """One of each kind of layer that keeps its weight in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1d = Conv1D(16, 12)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.cross = nn.MultiheadAttention(16, 4, batch_first=True, kdim=12, vdim=12)
        self.up = nn.ConvTranspose1d(16, 8, 3, stride=2, padding=1)
        self.image = nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1)
        self.volume = nn.Conv3d(2, 8, (3, 3, 2), padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # (B, T, 12)
        h = self.conv1d(x)
        own, cross = (layer(h, other, other)[0] for layer, other in ((self.attention, h), (self.cross, x)))
        channels = x.unflatten(-1, (4, 3)).transpose(1, 2)
        deep = x.unflatten(-1, (2, 2, 3)).movedim(2, 1)
        return {
            "conv1d": h, "attention": own, "cross": cross, "up": self.up(h.mT), "image": self.image(channels),
            "volume": self.volume(deep),
        }  # fmt: skip


def odd() -> nn.Module:
    net = seeded(Odd)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1 if parameter.dim() == 1 else parameter[0].numel() ** -0.5)
    return net


def odd_batches() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    mixed = torch.randn(12, 12) * torch.logspace(0, -1.5, 12)
    return [{"x": torch.randn(8, 10, 12) @ mixed} for _ in range(4)]


def errors(net: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    """By output, relative to the dense network's."""
    dense = odd()
    with torch.no_grad():
        return {
            key: float((net(**batches[0])[key] - expected).norm() / expected.norm())
            for key, expected in dense(**batches[0]).items()
        }


def test_every_odd_layer_is_pruned_with_less_output_error_than_by_magnitude() -> None:
    batches, found = odd_batches(), {}
    for way, options in {
        "magnitude": {"solver": "none"},
        "wanda": {"score": "wanda"},
        "admm": {"solver": "admm"},
        "obs": {"solver": "obs"},
    }.items():
        net = odd()
        report = DARECompressor(target_sparsity=0.6, allocation="uniform", **options).apply(
            ModuleAdapter(net), StageContext(calibration=batches)
        )
        assert len(report.touched) == 12
        assert all(facts["pruned"] == round(0.6 * facts["stored"]) for facts in report.touched.values())
        found[way] = errors(net, batches)
    for way in ("wanda", "admm", "obs"):
        assert all(error < found["magnitude"][key] for key, error in found[way].items()), way


@pytest.mark.parametrize(
    "stage",
    [
        NulluProjector(rank_reduction_ratio=0.5, energy_threshold=None, metric="calibration"),
        NulluProjector(rank_reduction_ratio=0.5, energy_threshold=None, metric="plain"),
        Quantizer(bits=4),
        DARECompressor(target_sparsity=0.5, rescale="least_squares"),
        DARECompressor(target_sparsity=0.5, score="taylor"),
        rcc.AlphaEditor(repair="none"),
    ],
    ids=lambda stage: stage.method,
)
def test_every_stage_takes_every_odd_layer_and_the_artifact_reloads(stage: Any, tmp_path: Path) -> None:
    net, batches = odd(), odd_batches()

    def loss(batch: dict[str, Tensor]) -> Tensor:
        return torch.stack([output.square().mean() for output in net(**batch).values()]).sum()

    adapter = ModuleAdapter(net, loss=loss)
    with torch.no_grad():
        context = StageContext(calibration=batches, targets=[adapter.outputs(batch) for batch in batches])
    report = stage.apply(adapter, context)
    assert len(report.touched) == 12
    rcc.save(adapter, tmp_path / "artifact")
    skeleton = odd()
    rcc.load(tmp_path / "artifact", skeleton=skeleton)
    with torch.no_grad():
        for key, output in net(**batches[0]).items():
            assert torch.equal(skeleton(**batches[0])[key], output)


class Restoring(nn.Module):
    """Halves an image and brings it back to the size it had, which a stride of two leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x).relu(), output_size=x.shape[-2:])  # type: ignore[no-any-return]


@pytest.mark.parametrize("side", [7, 8])
def test_a_transposed_convolution_is_fitted_to_outputs_of_the_size_its_caller_asks_for(side: int) -> None:
    adapter = ModuleAdapter(seeded(Restoring))
    context = StageContext(calibration=[{"x": torch.randn(4, 3, side, side)}])
    report = DARECompressor(target_sparsity=0.05, solver="admm").apply(adapter, context)
    assert report.touched["up"]["output_error"] < 0.01
