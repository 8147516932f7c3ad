"""Heads that share the weight of a token table: the same outputs, and a table that every stage may touch."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from toys.language import CASES, llama

import rcc
from rcc.layers.shared_head import SharedHead, open_shared_heads
from rcc.models.own.module import ModuleAdapter
from rcc.stages.quant import Quantizer


@pytest.mark.parametrize("name", ["whisper", "llama", "gpt2"])
def test_an_opened_head_gives_the_same_bits_and_its_table_is_one_unit(name: str) -> None:
    build, batch, output = CASES[name]
    module = build()
    with torch.no_grad():
        expected = getattr(module(**batch), output)
        adapter = ModuleAdapter(module, outputs=output)
        assert torch.equal(adapter.outputs(batch)[output], expected)
        assert torch.equal(copy.deepcopy(adapter).outputs(batch)[output], expected)
    (table,) = (unit for unit in adapter.units() if unit.kind == "embedding" and unit.shape[0] == 60)
    assert not table.tied
    assert not table.obstacle


def test_a_table_that_was_rounded_is_what_the_head_multiplies_with(tmp_path: Path) -> None:
    build, batch, output = CASES["llama"]
    adapter = ModuleAdapter(build(), outputs=output)
    pipeline = rcc.RCCPipeline([Quantizer(embedding_bits=3, roles=["embedding"])], performance_threshold=1e-6)
    pipeline.run(adapter, lambda _: 1.0, calibration=[batch])
    rows = adapter.module.model.embed_tokens(torch.arange(60))
    assert all(len(row.unique()) <= 7 for row in rows)
    with torch.no_grad():
        states = adapter.module.model(**batch).last_hidden_state
        assert torch.equal(adapter.outputs(batch)[output], states @ rows.T)
        rcc.save(adapter, tmp_path / "artifact", dtype=None)
        again = rcc.load(tmp_path / "artifact", skeleton=llama())
        assert torch.equal(adapter.outputs(batch)[output], again.module(**batch).logits)


def test_gradients_of_both_uses_reach_the_table() -> None:
    torch.manual_seed(0)
    plain, opened = (nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7)) for _ in range(2))
    opened.load_state_dict(plain.state_dict())
    for model in (plain, opened):
        model[1].weight = model[0].weight
    open_shared_heads(opened)
    assert isinstance(opened[1], SharedHead)
    ids = torch.tensor([1, 2, 5])
    for model in (plain, opened):
        model(ids).square().sum().backward()
    torch.testing.assert_close(opened[0].weight.grad, plain[0].weight.grad)


def test_a_table_with_a_way_of_its_own_keeps_its_head() -> None:
    class Scaled(nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 4

    module = nn.Sequential(Scaled(7, 4), nn.Linear(4, 7, bias=False))
    module[1].weight = module[0].weight
    open_shared_heads(module)
    assert type(module[1]) is nn.Linear


def test_the_weight_of_an_opened_head_is_the_tables() -> None:
    root = nn.ModuleDict({"words": nn.Embedding(7, 4), "head": nn.Linear(4, 7, bias=False)})
    root["head"].weight = root["words"].weight
    open_shared_heads(root)
    assert root["head"].weight is root["words"].weight
