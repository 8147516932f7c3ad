"""Convolutions of classes that pad by themselves: recognised by what they compute, and held in forms like others."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.input_rows import input_rows
from rcc.layers.own_padding import own_padding, pads_by_itself
from rcc.layers.units import find_units


class Static(nn.Conv2d):
    """Pads by a layer that it made for one size of image, as efficientnet_lite_pytorch does."""

    def __init__(self, *args: int, sides: tuple[int, ...] = (0, 1, 1, 2), **options: int) -> None:
        super().__init__(*args, **options)
        self.static_padding = nn.ZeroPad2d(sides)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            self.static_padding(x), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Dynamic(nn.Conv2d):
    """TensorFlow's 'same' for whatever size comes."""

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        for size, span, stride in zip((3, 2), self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(x.shape[size] / stride) - 1) * stride + span - x.shape[size], 0)
            sides += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, sides), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


CASES = {
    "static": (lambda: Static(3, 4, 3, 2), (0, 1, 1, 2)),
    "static with padding of torch's": (lambda: Static(4, 4, 3, padding=1, groups=4, bias=False), (1, 2, 2, 3)),
    "dynamic of stride 1": (lambda: Dynamic(3, 4, (2, 5)), (2, 2, 0, 1)),
    "dynamic of stride 2": (lambda: Dynamic(3, 4, 3, 2), None),
    "another weight": (lambda: Standardised(3, 4, 3), None),
}


@pytest.mark.parametrize("name", CASES)
def test_constant_padding_is_found_and_nothing_else(name: str) -> None:
    make, sides = CASES[name]
    module, other = make(), make().to("meta")
    state = torch.get_rng_state()
    assert pads_by_itself(module)
    assert own_padding(module) == sides
    assert own_padding(other) == sides
    assert torch.equal(torch.get_rng_state(), state)
    unit = find_units(nn.Sequential(module))[0]
    assert bool(unit.obstacle) == (sides is None)
    if sides is None:
        assert "put that in a layer before a plain one: nn.Sequential(nn.ZeroPad2d(" in unit.obstacle


def test_torchs_own_convolutions_pad_by_no_means_of_their_own() -> None:
    for module in (nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(3, 4, 3), nn.Linear(3, 4)):
        assert not pads_by_itself(module)
        assert own_padding(module) is None


@pytest.mark.parametrize("name", ["static", "static with padding of torch's", "dynamic of stride 1"])
def test_a_form_in_its_place_pads_as_it_does_and_gives_it_back(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(CASES[name][0]())
    kind, given = type(net[0]), torch.randn(2, net[0].in_channels, 9, 8)
    wanted = net(given).detach()
    unit = find_units(net)[0]
    plain = unit.read()
    weight = plain.dense().detach()
    unit.write(Form(sparse=weight / 2, scale=torch.full((4,), 2.0), bias=plain.bias))
    assert unit.module is net[0]
    assert type(net[0]) is not kind
    torch.testing.assert_close(net(given).detach(), wanted)
    torch.testing.assert_close(copy.deepcopy(net)(given).detach(), wanted)
    if net[0].groups == 1:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        unit.write(Form(left=left * values, right=right, bias=plain.bias))
        torch.testing.assert_close(net(given).detach(), wanted, rtol=1e-4, atol=1e-5)
    rows = torch.cat(list(input_rows(net[0], given)), 1)
    outputs = torch.cat([part @ own.T for part, own in zip(rows, weight.chunk(len(rows)), strict=True)], 1)
    bias = 0 if plain.bias is None else plain.bias[:, None, None]
    torch.testing.assert_close(outputs.T.reshape(4, 2, *wanted.shape[2:]).transpose(0, 1) + bias, wanted)
    unit.write(plain)
    assert type(net[0]) is kind
    assert torch.equal(net(given).detach(), wanted)
