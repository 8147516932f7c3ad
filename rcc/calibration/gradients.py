"""Reduce the loss's gradients to importance per output channel, without keeping any gradient.

One forward and backward a batch. Each weight's gradient is reduced to three vectors of length `out` and
dropped the moment it is complete, so that no more than one layer's gradient is alive at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from rcc.errors import WorkError
from rcc.layers.modes import differentiating, train_only
from rcc.layers.modules import FormModule
from rcc.layers.units import Unit
from rcc.ops.scale import channel_norms, gate_sensitivity

Item = TypeVar("Item")


@dataclass
class ChannelGradients:
    """Per output channel i, means over the batches; G is the gradient of a batch's loss by the weight.

    norm: ‖Gᵢ‖₂.
    squared: ‖Gᵢ‖₂², the diagonal of the empirical Fisher information summed over the channel; of batches, not
        of samples, so that it is exact for batches of one.
    sensitivity: |Σⱼ Wᵢⱼ Gᵢⱼ|, see `ops.scale.gate_sensitivity`.
    """

    norm: Tensor
    squared: Tensor
    sensitivity: Tensor

    @classmethod
    def of(cls, weight: Tensor, gradient: Tensor) -> ChannelGradients:
        """Those of one weight (out, …) and one gradient of its shape."""
        norm = channel_norms(gradient)
        return cls(norm, norm.square(), gate_sensitivity(weight, gradient).abs())


def channel_gradients(
    module: nn.Module, units: Sequence[Unit], items: Sequence[Item], loss: Callable[[Item], Tensor]
) -> dict[str, ChannelGradients]:
    """Statistics of the gradients of `loss(item)`, a scalar, for each unit, by its name.

    The gradient seen is that of the weight, of S where the unit is held as a form, and of U where it has no
    S: with orthonormal rows in V that is the part of G inside the row space of V. The sensitivity is exact
    in every case, because S·∂L/∂S + U·∂L/∂U = W·∂L/∂W in every row.

    Raises:
        WorkError: a loss is not finite, or does not depend on a unit.
    """
    parameters = {unit.name: _output_side(unit) for unit in units}
    sums = {unit.name: _zeros(unit, parameters[unit.name][0]) for unit in units}
    sensitivities: dict[str, Tensor] = {}
    reached: set[str] = set()
    everything = [parameter for group in parameters.values() for parameter in group]
    handles = [
        parameter.register_post_accumulate_grad_hook(
            partial(_reduce, unit, index == 0, sums[unit.name], sensitivities, reached)
        )
        for unit, group in ((unit, parameters[unit.name]) for unit in units)
        for index, parameter in enumerate(group)
    ]
    try:
        with differentiating(module):
            train_only(module, everything)
            for number, item in enumerate(items):
                value = loss(item)
                if not bool(torch.isfinite(value)):
                    raise WorkError(
                        f"the loss is {float(value.detach())} on calibration batch {number}: no gradients from it."
                    )
                sensitivities.clear()
                value.backward()
                for name, sensitivity in sensitivities.items():
                    sums[name].sensitivity += sensitivity.abs()
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in parameters if name not in reached]
    if missing:
        raise WorkError(f"the loss does not depend on {', '.join(missing)}: leave them out of the stage's selection.")
    for total in sums.values():
        for vector in (total.norm, total.squared, total.sensitivity):
            vector /= len(items)
    return sums


def _reduce(
    unit: Unit,
    is_gradient: bool,
    total: ChannelGradients,
    sensitivities: dict[str, Tensor],
    reached: set[str],
    parameter: Tensor,
) -> None:
    gradient = parameter.grad
    assert gradient is not None
    name, held = unit.name, isinstance(unit.module, FormModule)
    weight, matrix = (each if held else unit.as_matrix(each.detach()) for each in (parameter, gradient))
    # The parts of S and of U add up to Σ W G before its sign is dropped, which the caller does once a batch is through.
    sensitivity = gate_sensitivity(weight, matrix)
    sensitivities[name] = sensitivities[name] + sensitivity if name in sensitivities else sensitivity
    if is_gradient:
        norms = channel_norms(matrix)
        total.norm += norms
        total.squared += norms.square()
    reached.add(name)
    parameter.grad = None


def _output_side(unit: Unit) -> list[nn.Parameter]:
    """The parameters whose rows are the unit's output channels: the weight, or S and U; the widest first."""
    module = unit.module
    if isinstance(module, FormModule):
        return [matrix for matrix in (module.sparse, module.left) if matrix is not None]
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return [weight]


def _zeros(unit: Unit, parameter: nn.Parameter) -> ChannelGradients:
    return ChannelGradients(*(torch.zeros(unit.shape[0], device=parameter.device) for _ in range(3)))
