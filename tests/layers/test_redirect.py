"""A copy of a network stands in for it wherever a function calls the network, and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from rcc.layers.redirect import standing_in
from rcc.models.own.module import ModuleAdapter

Outputs = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Net(nn.Module):
    """Returns a pair, so that nobody can do without a function; holds its last layer in a list as well."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 4)
        self.gain = nn.Parameter(torch.ones(4))
        self.held = [self.two]

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.one(x))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.held[0](self.features(x)) * self.gain, None


NET = Net()


def a_global(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"out": NET(batch["x"])[0]}


def ways(net: Net) -> dict[str, Outputs]:
    layers, forward = [net.one, net.two], net.forward
    return {
        "closure": lambda batch: {"out": net(batch["x"])[0]},
        "bound method": lambda batch: {"out": forward(batch["x"])[0]},
        "parts": lambda batch: {"out": net.two(net.features(batch["x"])) * net.gain},
        "layers in a list": lambda batch: {"out": layers[1](torch.tanh(layers[0](batch["x"]))) * net.gain},
        "weights read": lambda batch: {
            "out": torch.tanh(batch["x"] @ net.one.weight.T + net.one.bias) @ net.two.weight.T + net.two.bias
        },
    }


def twin_of(model: ModuleAdapter) -> ModuleAdapter:
    twin = copy.copy(model)
    twin.module = copy.deepcopy(model.module)
    return twin


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return {"x": torch.randn(5, 8, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("way", list(ways(NET)))
@torch.no_grad()
def test_a_function_of_the_copy_runs_the_copy_whatever_becomes_of_the_network(
    net: Net, batch: dict[str, Tensor], way: str
) -> None:
    model = ModuleAdapter(net, outputs=ways(net)[way], loss=lambda batch: ways(net)[way](batch)["out"].sum())
    before, loss = model.outputs(batch)["out"], model.loss(batch)
    with standing_in(twin_of(model), net) as dense:
        net.two.weight.mul_(3)
        net.one.weight.zero_()
        assert torch.equal(dense.outputs(batch)["out"], before)
        assert torch.equal(dense.loss(batch), loss)
        assert not torch.equal(model.outputs(batch)["out"], before)


@torch.no_grad()
def test_a_layer_that_was_replaced_meanwhile_is_stood_in_for_too(net: Net, batch: dict[str, Tensor]) -> None:
    model = ModuleAdapter(net, outputs=ways(net)["closure"])
    before = model.outputs(batch)["out"]
    with standing_in(twin_of(model), net) as dense:
        for _ in range(3):
            net.one = nn.Linear(8, 16)
            assert torch.equal(dense.outputs(batch)["out"], before)


@torch.no_grad()
def test_a_global_network_is_stood_in_for(batch: dict[str, Tensor]) -> None:
    model = ModuleAdapter(NET, outputs=a_global)
    before = model.outputs(batch)["out"]
    with standing_in(twin_of(model), NET) as dense:
        NET.gain.data.mul_(2)
        assert torch.equal(dense.outputs(batch)["out"], before)
    assert torch.equal(model.outputs(batch)["out"], 2 * before)


@torch.no_grad()
def test_modules_of_no_network_and_the_copys_own_run_as_they_are(net: Net, batch: dict[str, Tensor]) -> None:
    other = nn.Linear(4, 2)
    model = ModuleAdapter(net, outputs=lambda batch: {"out": other(net(batch["x"])[0])})
    before = model.outputs(batch)["out"]
    twin = twin_of(model)
    with standing_in(twin, net) as dense:
        assert torch.equal(dense.outputs(batch)["out"], before)
        twin.module.gain.zero_()
        assert torch.equal(dense.outputs(batch)["out"], other(torch.zeros(5, 4)))


@torch.no_grad()
def test_forwards_that_are_left_half_way_keep_to_their_own_network(net: Net, batch: dict[str, Tensor]) -> None:
    """Both are paused after the first layer and resumed in turns: each goes on with the layers it began with."""

    def outputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = net.one(batch["x"])
        getcurrent().parent.switch()
        return {"out": net.two(torch.tanh(hidden)) * net.gain}

    model = ModuleAdapter(net, outputs=outputs)
    with standing_in(twin_of(model), net) as dense:
        forwards = [greenlet(each.outputs) for each in (model, dense, model)]
        for forward in forwards:
            forward.switch(batch)
        net.gain.data.zero_()
        found = [forward.switch()["out"] for forward in forwards]
    assert [bool(out.any()) for out in found] == [False, True, False]


def test_afterwards_modules_are_called_as_ever(net: Net) -> None:
    call, read = nn.Module.__call__, nn.Module.__getattr__
    model = ModuleAdapter(net, outputs=ways(net)["closure"])
    with pytest.raises(KeyError), standing_in(twin_of(model), net) as outer, standing_in(twin_of(model), net):
        raise KeyError
    assert nn.Module.__call__ is call
    assert nn.Module.__getattr__ is read
    assert "outputs" not in vars(outer)
