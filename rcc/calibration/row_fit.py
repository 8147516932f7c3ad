"""Sum products of wanted and actual outputs over calibration data, for a least-squares factor per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating
from rcc.layers.modules import convolved
from rcc.layers.units import Unit


class RowFit:
    """Σ y·ŷ and Σ ŷ² (out,) in float64 over all samples and positions, without the bias.

    ŷ is what the unit's weight makes of its inputs in the model as it is, y what `target` makes of the same.
    """

    def __init__(self, unit: Unit, target: Callable[[Unit], Tensor]) -> None:
        self.unit, self.target = unit, target
        self.cross = torch.zeros(unit.shape[0], dtype=torch.float64)
        self.energy = torch.zeros(unit.shape[0], dtype=torch.float64)

    def add(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Forward hook: add one batch."""
        wanted = _respond(module, inputs[0], self.target(self.unit))
        actual = _respond(module, inputs[0], self.unit.read().dense())
        self.cross += (wanted * actual).sum(0, dtype=torch.float64).cpu()
        self.energy += actual.square().sum(0, dtype=torch.float64).cpu()


def fit_rows(
    model: Model, units: Sequence[Unit], target: Callable[[Unit], Tensor], batches: Sequence[Batch]
) -> dict[str, RowFit]:
    """The products of every linear and convolutional unit of `units`, by name, in one pass over `batches`.

    Args:
        target: unit -> the weight (out, in) whose outputs are wanted; asked anew for each batch, so that it
            may come from a memory-mapped file.
        batches: inputs for `model.outputs`. A unit that never runs on them has sums of zero.
    """
    fits = {unit.name: RowFit(unit, target) for unit in units if unit.summing}
    with torch.no_grad(), evaluating(model.module), ExitStack() as hooks:
        for fit in fits.values():
            hooks.enter_context(_hooked(fit))
        for batch in batches:
            model.outputs(batch)
    return fits


@contextmanager
def _hooked(fit: RowFit) -> Iterator[None]:
    handle = fit.unit.module.register_forward_hook(fit.add)
    try:
        yield
    finally:
        handle.remove()


def _respond(module: Any, inputs: Tensor, weight: Tensor) -> Tensor:
    """The outputs (samples, out) of `weight` (out, in) in the place of the module's own, without bias."""
    weight = weight.to(inputs.device, inputs.dtype)
    kernel = getattr(module, "kernel_size", None)
    if kernel is None:
        return F.linear(inputs, weight).flatten(0, -2).float()
    return convolved(module, inputs, weight).movedim(-len(kernel) - 1, -1).flatten(0, -2).float()
