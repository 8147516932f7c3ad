"""Optimisers by name: which parameters each takes, and that each is the library's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rcc.layers.form import Form
from rcc.layers.units import find_units
from rcc.learning.held import held
from rcc.learning.optimisers import OPTIMISERS, Optimisers, decay_groups, embeddings, optimiser_for


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))


def test_matrices_decay_and_vectors_do_not() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    module[0].weight.requires_grad = False
    decayed, kept = decay_groups(nn.Sequential(module, nn.Linear(2, 2)), 0.1)
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(2, 2)]
    assert [tuple(parameter.shape) for parameter in kept["params"]] == [(2,)] * 4
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_takes_every_parameter_once_and_lowers_a_loss(name: str) -> None:
    module = network()
    optimiser = optimiser_for(module, name, learning_rate=0.05, weight_decay=0.01)
    taken = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    assert sorted(taken) == sorted(id(parameter) for parameter in module.parameters())
    tokens, wanted = torch.arange(5), torch.randn(5, 3)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (module(tokens) - wanted).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_muon_takes_matrices_and_leaves_embeddings_norms_and_biases_to_adamw() -> None:
    module = network()
    muon, adamw = optimiser_for(module, "muon").parts
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert [each is module[1].weight for group in muon.param_groups for each in group["params"]] == [True]
    assert [tuple(each.shape) for group in adamw.param_groups for each in group["params"]] == [(5, 4), (3,), (3,), (3,)]


def test_a_table_whose_form_is_held_is_an_embedding() -> None:
    module = network()
    unit = next(unit for unit in find_units(module) if unit.name == "0")
    zeros = torch.rand(unit.read().dense().shape) < 0.5
    unit.write(Form(sparse=unit.read().dense().masked_fill(zeros, 0.0)))
    with held(module):
        tables = embeddings(module)
        assert any(id(parameter) in tables for parameter in module[0].parameters())
        assert not any(id(parameter) in tables for parameter in module[1].parameters())
        muon, _ = optimiser_for(module, "muon").parts
        assert sum(len(group["params"]) for group in muon.param_groups) == 1


def test_several_optimisers_share_their_groups_before_and_after_a_state_is_loaded() -> None:
    def made() -> tuple[nn.Module, Optimisers]:
        module = network()
        return module, optimiser_for(module, "muon", learning_rate=0.1)

    module, one = made()
    module(torch.arange(5)).sum().backward()
    one.step()
    other = made()[1]
    other.load_state_dict(one.state_dict())
    for group in other.param_groups:
        group["lr"] = 0.25
    assert [group["lr"] for part in other.parts for group in part.param_groups] == [0.25] * 3
    assert len(other.parts[0].state) == 1
