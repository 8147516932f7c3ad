"""Biases of attention that another can hold: which are found, and that moving them changes no output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcc.layers.inert_biases import KeyBias, ValueBias, inert_biases
from rcc.layers.units import find_units


class Shared(nn.Module):
    """Four heads of queries of width 3 that read two heads of keys and values, without a bias in the output."""

    head_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(5, 12)
        self.k_proj, self.v_proj = nn.Linear(5, 6), nn.Linear(5, 6)
        self.o_proj = nn.Linear(12, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one(x).unflatten(-1, (-1, 3)).transpose(1, 2) for one in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (each.repeat_interleave(2, 1) for each in (k, v))
        mixed = (q @ k.mT).softmax(-1) @ v
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def found(root: nn.Module) -> list[KeyBias | ValueBias]:
    return list(inert_biases(root, {unit.name: unit for unit in find_units(root)}))


def test_moving_them_keeps_every_output_of_heads_that_share_values() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Shared()).double()
    given = torch.randn(2, 7, 5, dtype=torch.float64)
    wanted = net(given).detach()
    moves = found(net)
    assert [(type(one), [unit.name for unit in one.units]) for one in moves] == [
        (KeyBias, ["0.k_proj"]),
        (ValueBias, ["0.v_proj", "0.o_proj"]),
    ]
    for one in moves:
        one.move()
    torch.testing.assert_close(net(given).detach(), wanted)
    assert not bool(net[0].k_proj.bias.any() | net[0].v_proj.bias.any())
    assert found(net) == []


def test_layers_that_are_no_attention_together_are_none() -> None:
    net = Shared()
    net.v_proj = nn.Linear(5, 7)  # no whole number of heads
    assert [type(one) for one in found(net)] == [KeyBias]
    del net.k_proj
    assert found(net) == []
