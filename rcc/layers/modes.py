"""Put a model into evaluation mode, with chosen parameters trainable, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rcc.layers.activation_checkpointing import checkpointed_activations


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, dropout is off and running statistics are fixed; afterwards all is as it was.

    Each submodule's training mode and each parameter's `requires_grad` are kept by name, so that what was
    replaced inside gets its predecessor's. Gradients made inside are dropped; those of a parameter that is still there
    are put back, and never added to.
    """
    modes = {name: part.training for name, part in module.named_modules()}
    asking: dict[str, bool] = {}
    gradients: dict[nn.Parameter, Tensor | None] = {}
    for name, parameter in module.named_parameters():
        asking[name], gradients[parameter] = parameter.requires_grad, parameter.grad
        parameter.grad = None
    module.eval()
    try:
        yield
    finally:
        for name, part in module.named_modules():
            part.training = modes.get(name, part.training)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(asking.get(name, parameter.requires_grad))
            parameter.grad = gradients.get(parameter)


@contextmanager
def differentiating(module: nn.Module) -> Iterator[None]:
    """Inside, gradients are taken in evaluation mode; blocks marked for activation checkpointing are recomputed."""
    with evaluating(module), checkpointed_activations(module), torch.enable_grad():
        yield


def train_only(module: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Let gradients flow to `parameters` and to no other parameter of `module`."""
    chosen = {id(parameter) for parameter in parameters}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
