from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rcc.artifact.vectors import coded
from rcc.layers.grid import round_vector
from rcc.stages.quant.vectors import LARGEST_ERROR, foreseen, round_vectors


@given(st.integers(0, 2**31), st.floats(-3, 3), st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_a_rounded_vector_is_near_on_a_grid_that_the_artifact_finds_and_stays(
    seed: int, magnitude: float, storage: torch.dtype
) -> None:
    values = torch.randn(64, generator=torch.Generator().manual_seed(seed)) * 10**magnitude
    rounded = round_vector(values, storage)
    largest = float(values.abs().max())
    slack = largest * torch.finfo(storage).eps
    assert float((rounded - values).abs().max()) <= largest / 112 / 2 + slack
    assert coded(rounded.to(storage))[0][0] == "*"
    assert torch.equal(rounded.to(storage).float(), rounded)


def test_biases_and_norms_are_rounded_and_nothing_else() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.LayerNorm(32), nn.Linear(32, 8))
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter)
    net[2].bias.data[0] = 1e4  # an outlier: eight bits would leave nothing of the others
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    facts = round_vectors(net, torch.float16)
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"0.bias", "1.weight", "1.bias", "2.weight"}
    assert (facts["vectors"], facts["vector_values"], facts["vectors_left"]) == (4, 4 * 32, 1)
    assert 0 < facts["vector_error"] < LARGEST_ERROR


def test_zeros_stay() -> None:
    assert torch.equal(round_vector(torch.zeros(20), torch.float16), torch.zeros(20))


def test_what_is_foreseen_is_what_is_done() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.Linear(32, 8))
    net[1].bias.data = torch.randn(32)
    expected = {name: foreseen(name, tensor, torch.float16) for name, tensor in net.state_dict().items()}
    expected = {name: tensor.clone() for name, tensor in expected.items()}
    round_vectors(net, torch.float16)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in net.state_dict().items())
