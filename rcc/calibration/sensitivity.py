"""How much the model's outputs move when those of one layer do: for all layers at once, by random projections.

For a normalised output e and a small change δ of a layer's outputs y, the distance 1 − cos is ½ ‖J δ‖², J = ∂e/∂y.
The trace of JᵀJ is the mean of ‖Jᵀ v‖² over v with independent entries of variance 1 (Hutchinson 1990), and one
backward pass gives Jᵀ v for every layer. So a few passes over some items tell what each layer's error costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.calibration.modes import evaluating
from rcc.calibration.row_fit import FITTED, Answering, Batch
from rcc.layers.units import Unit

ITEMS = 64
"""Items looked at, unless told otherwise: the mean of their squares is then good to some 10 %."""


@dataclass(frozen=True)
class Sensitivity:
    """Of one unit: `rows` (out,) is the mean over items of Σ (∂e/∂yᵢ)² over places, calls and outputs; `variance`
    (out,) that of yᵢ about its mean, over the places that are no padding. Both float64."""

    rows: Tensor
    variance: Tensor

    @property
    def weight(self) -> float:
        """1 − cos of the model's outputs for each unit of relative error E‖δ‖² / E‖y − ȳ‖² spread over the rows as
        noise is: ½ Σ rows · mean variance."""
        return 0.5 * float(self.rows.sum()) * float(self.variance.mean())

    @property
    def energy(self) -> float:
        """E‖y − ȳ‖², what relative errors are relative to."""
        return float(self.variance.sum())


def sensitivities(
    model: Answering,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    generator: torch.Generator,
    items: int = ITEMS,
) -> dict[str, Sensitivity]:
    """The sensitivity of the outputs to each linear and convolutional unit, by name; those never called are absent.

    Args:
        batches: the first of them are looked at, until there are `items` items.
        generator: of the random directions; the same one gives the same numbers.

    A unit that is called several times, or under several names, counts with all its calls. One that the outputs do
    not depend on has rows of zero.

    Cost: one forward and one backward pass over these items, with the activations of one batch in memory.
    """
    fitted = [unit for unit in units if unit.kind in FITTED]
    sums = {unit.name: _Sums(unit.shape[0]) for unit in fitted}
    seen = 0
    with evaluating(model.module), torch.enable_grad():
        for parameter in model.module.parameters():
            parameter.requires_grad_(False)
        for batch in batches:
            if seen >= items:
                break
            with _probed(fitted) as probes:
                outputs = model.outputs(batch)
                total = _projection(outputs, generator)
            seen += len(next(iter(outputs.values())))
            gradients: Sequence[Tensor | None] = [None] * len(probes)
            if total.requires_grad:  # as it does not where the outputs depend on no unit
                gradients = torch.autograd.grad(total, [one.added for one in probes], allow_unused=True)
            for one, gradient in zip(probes, gradients, strict=True):
                sums[one.unit].add(one, gradient, batch.get("attention_mask"))
    return {name: one.sensitivity(seen) for name, one in sums.items() if one.count}


def _projection(outputs: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Σ ⟨v, e⟩ over items and named outputs, e normalised along its last dimension, v of independent ±1."""
    total: Any = 0
    for name in sorted(outputs):
        output = outputs[name] if outputs[name].dim() > 1 else outputs[name].reshape(1, -1)
        signs = torch.randint(2, output.shape, generator=generator).mul_(2).sub_(1).to(output)
        total = total + (F.normalize(output, dim=-1) * signs).sum()
    return total


@dataclass(frozen=True)
class _Probe:
    """One call of a unit: its output, to which `added` was added, with the output channels at `channel`."""

    unit: str
    added: Tensor
    output: Tensor
    channel: int


class _Sums:
    """Sums over the places and items of one unit."""

    def __init__(self, rows: int) -> None:
        self.count = 0
        self.squares, self.total, self.energy = (torch.zeros(rows, dtype=torch.float64) for _ in range(3))

    def add(self, probe: _Probe, gradient: Tensor | None, mask: Tensor | None) -> None:
        output = probe.output.movedim(probe.channel, -1)
        if mask is not None and probe.channel == -1 and output.dim() > 2 and output.shape[:2] == mask.shape:
            output = output[mask.to(output.device) != 0]
        flat = output.flatten(0, -2).double()
        self.count += len(flat)
        self.total += flat.sum(0).cpu()
        self.energy += flat.square().sum(0).cpu()
        if gradient is not None:
            self.squares += gradient.movedim(probe.channel, -1).flatten(0, -2).double().square().sum(0).cpu()

    def sensitivity(self, items: int) -> Sensitivity:
        variance = self.energy / self.count - (self.total / self.count).square()
        return Sensitivity(self.squares / max(1, items), variance.clamp_min(0))


@contextmanager
def _probed(units: Sequence[Unit]) -> Iterator[list[_Probe]]:
    """Inside, every output of a unit has a zero added whose gradient is that of the output.

    Yields the probes, one for each call, which come as forwards run.
    """
    probes: list[_Probe] = []

    def hook(name: str, module: nn.Module, output: Tensor) -> Tensor:
        added = torch.zeros_like(output, requires_grad=True)
        kernel = getattr(module, "kernel_size", None)
        probes.append(_Probe(name, added, output.detach(), -1 if kernel is None else -len(kernel) - 1))
        return output + added

    handles = []
    for unit in units:
        modules = {id(module): module for module in map(unit.root.get_submodule, (unit.name, *unit.tied))}
        for module in modules.values():
            handles.append(module.register_forward_hook(partial(lambda name, m, _, y: hook(name, m, y), unit.name)))
    try:
        yield probes
    finally:
        for handle in handles:
            handle.remove()
