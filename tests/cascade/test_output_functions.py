"""Outputs and losses given as functions over the user's network: every stage compresses it as one that needs none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rcc.cascade.bytes.budget import Target
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.cascade.state import StateStore
from rcc.models.own.module import ModuleAdapter
from rcc.stages.alpha.editor import AlphaEditor
from rcc.stages.base import Stage
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.nullu.projector import NulluProjector
from rcc.stages.quant.quantizer import Quantizer

STAGES: dict[str, Callable[[], list[Stage]]] = {
    "dare admm": lambda: [DARECompressor(0.5, solver="admm")],
    "dare obs": lambda: [DARECompressor(0.5, solver="obs")],
    "dare sensitivity": lambda: [DARECompressor(0.5, solver="none", allocation="sensitivity")],
    "dare fisher": lambda: [DARECompressor(0.5, solver="none", score="fisher", allocation="uniform")],
    "nullu calibration": lambda: [NulluProjector(0.5, energy_threshold=None, metric="calibration")],
    "alpha least squares": lambda: [
        DARECompressor(0.5, solver="none"),
        AlphaEditor(repair="least_squares", num_epochs=0),
    ],
    "alpha learned": lambda: [DARECompressor(0.5, solver="none"), AlphaEditor(repair="none", num_epochs=2)],
    "quant": lambda: [Quantizer(4)],
}


class Net(nn.Module):
    """Returns a tensor, or with `pair` a tuple that no adapter can read without a function."""

    def __init__(self, pair: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 8)
        self.pair = pair

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, None]:
        out: Tensor = self.three(torch.tanh(self.two(torch.tanh(self.one(input)))))
        return (out, None) if self.pair else out


def alone() -> ModuleAdapter:
    net = Net().eval()
    model = ModuleAdapter(net, loss=lambda batch: model.module(**batch).square().sum())
    return model


def closed_over() -> ModuleAdapter:
    net = Net(pair=True).eval()
    return ModuleAdapter(
        net,
        outputs=lambda batch: {"output": net(batch["input"])[0]},
        loss=lambda batch: net(batch["input"])[0].square().sum(),
    )


def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"input": torch.randn(16, 16, generator=generator)} for _ in range(4)]


def compressed(model: ModuleAdapter, stages: list[Stage], target: Target | None = None) -> dict[str, Tensor]:
    pipeline = RCCPipeline(stages, performance_threshold=0.01, target=target, schedule=Schedule(2))
    pipeline.run(model, lambda adapter: 1.0, calibration=batches())
    return model.module.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stages", list(STAGES))
def test_a_stage_finds_the_same_weights_through_functions(stages: str) -> None:
    expected = compressed(alone(), STAGES[stages]())
    assert not same(expected, Net().state_dict())
    assert same(compressed(closed_over(), STAGES[stages]()), expected)


def test_shares_of_a_target_are_those_of_the_dense_outputs() -> None:
    stages: Callable[[], list[Stage]] = lambda: [NulluProjector(energy_threshold=None), DARECompressor()]  # noqa: E731
    expected = compressed(alone(), stages(), Target(1800))
    assert same(compressed(closed_over(), stages(), Target(1800)), expected)


@torch.no_grad()
def test_the_dense_model_beside_a_written_layer_gives_its_outputs_before_compression(tmp_path) -> None:
    model, batch = closed_over(), batches()[0]
    before = model.outputs(batch)["output"]
    store = StateStore(tmp_path)
    store.save(0, "initial", model, {})
    with store.dense(model) as dense:
        assert torch.equal(dense.outputs(batch)["output"], before)
        model.module.two.weight.mul_(0.5)
        model.module.one = nn.Linear(16, 24)
        assert torch.equal(dense.outputs(batch)["output"], before)
        assert not torch.equal(model.outputs(batch)["output"], before)
