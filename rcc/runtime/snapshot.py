"""Snapshot a module tree and restore it: by reference, with nothing copied."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only


class Snapshot:
    """What every module of the tree `root` holds now. `put` makes it so again, whatever was replaced since."""

    def __init__(self, root: nn.Module) -> None:
        self._held: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
            (held, dict(held)) for module in root.modules() for held in _dictionaries(module)
        ]

    def put(self) -> None:
        for held, then in self._held:
            held.clear()
            held.update(then)


def cast(root: nn.Module, dtype: torch.dtype) -> None:
    """Give every floating-point parameter and buffer of the tree a version in `dtype`; tied ones stay tied.

    What the root is called with is cast as well, so that it takes what it took before. The old tensors are not
    written to: a snapshot still has them. Batch norms keep theirs, whose running variances lose too much in 16 bits.
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
    root.register_forward_pre_hook(partial(_cast_inputs, dtype), with_kwargs=True)


def _cast_inputs(dtype: torch.dtype, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return tree_map_only(torch.Tensor, partial(_cast, dtype), (inputs, named))


def _cast(dtype: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _dictionaries(module: nn.Module) -> tuple[dict[Any, Any], ...]:
    hooks = module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs
    return (module._modules, module._parameters, module._buffers, *hooks)
