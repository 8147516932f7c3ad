"""Gradients of the model's loss by every stored value: their mean, and the mean of their squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from rcc.errors import WorkError
from rcc.layers.model import Batch
from rcc.layers.modes import differentiating, train_only
from rcc.layers.modules import FormModule
from rcc.layers.units import Unit


def weight_gradients(
    module: nn.Module,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    loss: Callable[[Batch], Tensor],
    squared: bool = False,
) -> dict[tuple[str, str], Tensor]:
    """E[G], or E[G²] elementwise, over the batches, for each matrix of each unit by (unit name, matrix name).

    G is the gradient of one batch's loss; with batches of one E[G²] is the diagonal of the empirical Fisher
    information. In float32 or wider. Takes the memory of the units' matrices once more, and that of one matrix's
    gradient beside it. A matrix the loss does not depend on has zeros.

    Raises:
        WorkError: a loss is not finite.
    """
    by_name = {unit.name: unit for unit in units}
    parameters = {(unit.name, name): _parameter(unit, name) for unit in units for name, _ in unit.read().matrices()}
    sums = {
        key: torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32), requires_grad=False)
        for key, parameter in parameters.items()
    }
    with differentiating(module), ExitStack() as hooks:
        train_only(module, parameters.values())
        for key, parameter in parameters.items():
            handle = parameter.register_post_accumulate_grad_hook(partial(_add, sums[key], squared))
            hooks.callback(handle.remove)
        for number, batch in enumerate(batches):
            value = loss(batch)
            if not bool(torch.isfinite(value)):
                raise WorkError(
                    f"the loss is {float(value.detach())} on calibration batch {number}: no gradients from it."
                )
            if value.requires_grad:  # as it does not where the loss depends on no unit
                value.backward()
    means = {key: total.div_(max(1, len(batches))) for key, total in sums.items()}
    return {key: _as_matrix(by_name[key[0]], mean) for key, mean in means.items()}


def _add(total: Tensor, squared: bool, parameter: Tensor) -> None:
    gradient = parameter.grad
    assert gradient is not None
    parameter.grad = None
    wide = gradient.to(total.dtype)
    total.addcmul_(wide, wide) if squared else total.add_(wide)


def _as_matrix(unit: Unit, gradient: Tensor) -> Tensor:
    return gradient if isinstance(unit.module, FormModule) else unit.as_matrix(gradient)


def _parameter(unit: Unit, name: str) -> nn.Parameter:
    """The parameter behind one stored matrix."""
    parameter = getattr(unit.module, name if isinstance(unit.module, FormModule) else "weight")
    assert isinstance(parameter, nn.Parameter)
    return parameter
