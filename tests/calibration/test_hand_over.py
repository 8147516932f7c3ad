"""Which layer a norm alone reads from, by one forward: residuals, second calls and operations in place count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcc.calibration.hand_over import hand_overs
from rcc.models.own.module import ModuleAdapter


class Paths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        names = ("plain", "padded", "skipped", "twice", "after_relu", "idle")
        self.layers = nn.ModuleDict({name: nn.Linear(4, 4) for name in (*names, "second")})
        self.norms = nn.ModuleDict({name: nn.BatchNorm1d(4) for name in (*names, "first", "shared")})
        self.wrapped = nn.Sequential(nn.Identity(), self.layers["padded"])

    def forward(self, x: Tensor) -> Tensor:
        layer, norm = self.layers, self.norms
        x = norm["first"](x)
        x = norm["plain"](layer["plain"](x))
        x = norm["padded"](self.wrapped(x))
        y = layer["skipped"](x)
        x = norm["skipped"](y) + y
        x = norm["twice"](layer["twice"](x)) + layer["twice"](x)
        x = norm["after_relu"](layer["after_relu"](x).relu_())
        return norm["shared"](norm["shared"](layer["second"](x)))


def test_a_norm_follows_the_layer_whose_output_it_alone_reads() -> None:
    model = ModuleAdapter(Paths())
    layers = {name: module for name, module in model.module.named_modules() if isinstance(module, nn.Linear)}
    norms = {name: module for name, module in model.module.named_modules() if isinstance(module, nn.BatchNorm1d)}
    modes = [module.training for module in model.module.modules()]
    found = hand_overs(model, layers, norms, {"x": torch.randn(5, 4)})
    assert found.layer_of == {"norms.plain": "layers.plain", "norms.padded": "layers.padded"}
    assert found.reason == {
        "norms.first": "what it is given is no layer's output",
        "norms.skipped": "the output of layers.skipped is read by others too",
        "norms.twice": "layers.twice, before it, is called 2 times",
        "norms.after_relu": "the output of layers.after_relu is read by others too",
        "norms.idle": "the calibration batch did not reach it",
        "norms.shared": "it is called 2 times",
    }
    assert [module.training for module in model.module.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())
