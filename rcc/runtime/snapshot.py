"""A module tree as it was at one moment, put back at will: modules, parameters and buffers by reference, no copies."""

from __future__ import annotations

import torch
from torch import nn


class Snapshot:
    """What every module of the tree `root` holds now. `put` makes it so again, whatever was replaced since."""

    def __init__(self, root: nn.Module) -> None:
        self._held = [
            (module, dict(module._modules), dict(module._parameters), dict(module._buffers))
            for module in root.modules()
        ]

    def put(self) -> None:
        for module, modules, parameters, buffers in self._held:
            for now, then in (
                (module._modules, modules), (module._parameters, parameters), (module._buffers, buffers),
            ):  # fmt: skip
                now.clear()
                now.update(then)  # type: ignore[arg-type]


def cast(root: nn.Module, dtype: torch.dtype) -> None:
    """Give every floating-point parameter and buffer of the tree a version in `dtype`; tied ones stay tied.

    The old tensors are not written to: a snapshot still has them. Batch norms keep theirs, whose running variances
    lose too much in 16 bits.
    """
    made: dict[int, nn.Parameter | torch.Tensor] = {}
    for module in root.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                if id(parameter) not in made:
                    made[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
                module._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)
