"""Roles and towers of networks that no adapter was written for."""

from __future__ import annotations

from collections import Counter

import pytest
import transformers
from torch import nn
from toys.language import CASES, bert_config

from rcc.layers.units import find_units
from rcc.models.roles import roles_of

EXPECTED = {
    "bert": {
        ("attention", "model"): 8, ("norm", "model"): 5, ("mlp", "model"): 4, ("embedding", "model"): 3,
        ("projection", "model"): 1,
    },
    "whisper": {
        ("attention", "encoder"): 8, ("attention", "decoder"): 8, ("cross_attention", "decoder"): 8,
        ("norm", "decoder"): 7, ("norm", "encoder"): 5, ("mlp", "encoder"): 4, ("mlp", "decoder"): 4,
        ("conv", "encoder"): 2, ("embedding", "decoder"): 2, ("embedding", "encoder"): 1,
    },
    "llama": {("attention", "model"): 8, ("mlp", "model"): 6, ("embedding", "model"): 1},
    "gpt2": {("norm", "model"): 5, ("attention", "model"): 4, ("mlp", "model"): 4, ("embedding", "model"): 2},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_layers_are_told_by_what_they_lie_in(name: str) -> None:
    module = CASES[name][0]()
    found = Counter((unit.role, unit.tower) for unit in find_units(module, roles_of(module)))
    assert found == EXPECTED[name]


def test_heads_and_patches_have_roles_of_their_own() -> None:
    module = transformers.BertForSequenceClassification(bert_config())
    roles = {unit.name: unit.role for unit in find_units(module, roles_of(module))}
    assert (roles["classifier"], roles["bert.pooler.dense"]) == ("head", "projection")
    tree = nn.ModuleDict({"vision_embed": nn.Conv2d(3, 4, 2), "layer1": nn.ModuleList([nn.Conv2d(4, 4, 1)])})
    tree["classifier"] = nn.Sequential(nn.Dropout(), nn.Linear(4, 2))
    found = {unit.name: (unit.role, unit.tower) for unit in find_units(tree, roles_of(tree))}
    assert found == {
        "vision_embed": ("embedding", "vision"),
        "layer1.0": ("conv", "model"),
        "classifier.1": ("head", "model"),
    }
