"""Gradients of the model's loss by every stored value: their mean, and the mean of their squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rcc.calibration.modes import evaluating, train_only
from rcc.calibration.row_fit import Batch
from rcc.errors import WorkError
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
    information. Takes the memory of the units' matrices once more. A matrix the loss does not depend on has zeros.

    Raises:
        WorkError: a loss is not finite.
    """
    shapes = {(unit.name, name): matrix.shape for unit in units for name, matrix in unit.read().matrices()}
    with evaluating(module), torch.enable_grad():
        parameters = {(unit.name, name): _parameter(unit, name) for unit in units for name, _ in unit.read().matrices()}
        train_only(module, parameters.values())
        sums = {key: torch.zeros_like(parameter, requires_grad=False) for key, parameter in parameters.items()}
        for number, batch in enumerate(batches):
            value = loss(batch)
            if not bool(torch.isfinite(value)):
                raise WorkError(
                    f"the loss is {float(value.detach())} on calibration batch {number}: no gradients from it."
                )
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for key, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    sums[key] += gradient.square() if squared else gradient
    return {key: (total / max(1, len(batches))).detach().reshape(shapes[key]) for key, total in sums.items()}


def _parameter(unit: Unit, name: str) -> nn.Parameter:
    """The parameter behind one stored matrix."""
    parameter = getattr(unit.module, name if isinstance(unit.module, FormModule) else "weight")
    assert isinstance(parameter, nn.Parameter)
    return parameter
