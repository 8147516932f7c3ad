"""Batch norms folded into the layer before them, against the two layers as torch runs them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rcc.layers.batch_norm import affine, constant_values, is_fixed, make_canonical_, make_identity_, with_affine
from rcc.layers.units import find_units

LAYERS = {
    "linear": (lambda: nn.Linear(5, 6), nn.BatchNorm1d, (7, 5)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d, (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv1d(6, 6, 3, groups=6), nn.BatchNorm1d, (2, 6, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d, (2, 4, 5, 5)),
    "volume": (lambda: nn.Conv3d(2, 6, 2), nn.BatchNorm3d, (2, 2, 3, 4, 5)),
}


def trained(norm: Any, seed: int) -> Any:
    """`norm` with statistics and weights as training leaves them, a dead channel and a negative weight among them."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        norm.running_mean.normal_(0, 2, generator=draw)
        norm.running_var.uniform_(0.05, 4, generator=draw)
        norm.running_var[0] = 0
        if norm.weight is not None:
            norm.weight.normal_(0, 1, generator=draw)
            norm.bias.normal_(0, 1, generator=draw)
    return norm.eval()


@given(
    kind=st.sampled_from(sorted(LAYERS)), seed=st.integers(0, 99), eps=st.sampled_from([1e-5, 1e-3]), own=st.booleans()
)
@settings(deadline=None, max_examples=40)
def test_a_folded_layer_gives_what_it_and_its_norm_gave(kind: str, seed: int, eps: float, own: bool) -> None:
    torch.manual_seed(seed)
    make, norm_of, shape = LAYERS[kind]
    net = nn.Sequential(make(), trained(norm_of(6, eps, affine=own), seed)).double().eval()
    given = torch.randn(shape, dtype=torch.float64)
    wanted = net(given).detach()
    unit = find_units(net)[0]
    unit.write(with_affine(unit.read(), *affine(net[1])))
    torch.testing.assert_close(net[0](given).detach(), wanted)
    make_identity_(net[1])
    torch.testing.assert_close(net(given).detach(), wanted, rtol=1e-6, atol=1e-7)
    assert constant_values(net[1]) == (24 if own else 12)
    assert type(net[1]) is norm_of


@pytest.mark.parametrize(("eps", "equal"), [(1e-5, True), (1e-6, True), (0.0, True), (1e-3, False)])
def test_an_identity_gives_every_bit_back_where_the_eps_is_lost_beside_its_variance(eps: float, equal: bool) -> None:
    norm = trained(nn.BatchNorm2d(8, eps), 1)
    make_identity_(norm)
    given = 100 * torch.randn(4, 8, 6, 6)
    if equal:
        assert torch.equal(norm(given), given)
    torch.testing.assert_close(norm(given), given, rtol=2e-7, atol=0)
    for vector in (norm.weight, norm.running_var):  # as an artifact of 16 bits keeps them
        assert torch.equal(vector.half().float(), vector)
        assert torch.equal(vector.bfloat16().float(), vector)


def test_a_norm_by_itself_is_the_same_with_statistics_of_one_value() -> None:
    norm = trained(nn.BatchNorm1d(9), 3)
    given = torch.randn(5, 9, 4)
    wanted = norm(given).detach()
    make_canonical_(norm)
    # The dead channel multiplies by 1 / √ε.
    torch.testing.assert_close(norm(given).detach(), wanted, rtol=1e-5, atol=1e-4)
    assert constant_values(norm) == 18


def zeros(values: Tensor) -> int:
    return int((values.view(torch.int32) == 0).sum())


def test_zeros_of_a_folded_weight_stay_positive_zeros() -> None:
    net = nn.Sequential(nn.Linear(5, 6), trained(nn.BatchNorm1d(6), 1)).eval()
    with torch.no_grad():
        net[0].weight[:, 2] = 0
        net[1].weight.neg_()
    unit = find_units(net)[0]
    unit.write(with_affine(unit.read(), *affine(net[1])))
    assert zeros(net[0].weight.detach()) == 6


def test_only_norms_of_torchs_own_with_running_statistics_are_affine_maps() -> None:
    class Own(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + 1

    assert is_fixed(nn.BatchNorm2d(3))
    assert not is_fixed(nn.BatchNorm2d(3, track_running_stats=False))
    assert not is_fixed(Own(3))
    assert not is_fixed(nn.GroupNorm(1, 3))
