"""Estimate how far the model's outputs move with each layer's, for all layers at once, by random projections.

For a normalised output e and a small change δ of a layer's outputs y, the distance 1 − cos is ½ ‖J δ‖², J = ∂e/∂y.
The trace of JᵀJ is the mean of ‖Jᵀ v‖² over v with independent entries of variance 1 (Hutchinson 1990), and one
backward pass gives Jᵀ v for every layer. So a few passes over some items tell what each layer's error costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.model import Batch, Model
from rcc.layers.modes import differentiating
from rcc.layers.padding import mask_of, without_padding
from rcc.layers.units import Unit
from rcc.memory import give_back_free_memory

ITEMS = 64
"""Items looked at, unless told otherwise: the mean of their squares is then good to some 10 %."""
PART = 4
"""Items that go forward and back together: what is kept of them in between is what the pass takes in memory."""


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
    model: Model,
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

    Cost: one forward and one backward pass over these items, with the activations of `PART` items in memory; those
    of a batch where not all of its tensors, or of the outputs, are one row an item. And a forward of its first part.
    """
    fitted = [unit for unit in units if unit.summing]
    sums = {unit.name: _Sums(unit.shape[0]) for unit in fitted}
    seen = 0
    with differentiating(model.module):
        for parameter in model.module.parameters():
            parameter.requires_grad_(False)
        for batch in batches:
            if seen >= items:
                break
            parts, shapes = _parts(model, batch)
            signs = {name: _signs(shapes[name], generator) for name in sorted(shapes)}
            seen += len(next(iter(signs.values())))
            start = 0
            for part in parts:
                with _probed(fitted, sums, mask_of(part)) as probes:
                    outputs = model.outputs(part)
                    end = start + len(next(iter(outputs.values())))
                    total = _projection(outputs, {name: every[start:end] for name, every in signs.items()})
                    # Blocks under activation checkpointing are called again in the backward pass, which must build
                    # the same graph (so the probes stay) and is not to be summed twice.
                    probes.summing = False
                    if total.requires_grad:  # as it does not where the outputs depend on no unit
                        total.backward()
                start = end
    give_back_free_memory()
    return {name: one.sensitivity(seen) for name, one in sums.items() if one.count}


def _parts(model: Model, batch: Batch) -> tuple[list[Batch], dict[str, torch.Size]]:
    """`batch` in parts of `PART` items, or as it is where it cannot be parted, and the shapes of its outputs."""
    sizes = {tensor.shape[:1] for tensor in batch.values()}
    if len(sizes) == 1 and (size := sum(next(iter(sizes)))) > PART:
        parts = [{key: tensor[start : start + PART] for key, tensor in batch.items()} for start in range(0, size, PART)]
        shapes = _shapes(model, parts[0])
        if all(len(shape) > 1 and shape[0] == PART for shape in shapes.values()):
            return parts, {name: torch.Size((size, *shape[1:])) for name, shape in shapes.items()}
    return [batch], _shapes(model, batch)


@torch.no_grad()
def _shapes(model: Model, batch: Batch) -> dict[str, torch.Size]:
    return {name: output.shape for name, output in model.outputs(batch).items()}


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator).mul_(2).sub_(1)


def _projection(outputs: Mapping[str, Tensor], signs: Mapping[str, Tensor]) -> Tensor:
    """Σ ⟨v, e⟩ over items and named outputs, e normalised along its last dimension, v of ±1."""
    total: Any = 0
    for name in sorted(outputs):
        rows = outputs[name] if outputs[name].dim() > 1 else outputs[name].reshape(1, -1)
        total = total + (F.normalize(rows, dim=-1) * signs[name].reshape(rows.shape).to(rows)).sum()
    return total


class _Sums:
    """Sums over the places and items of one unit."""

    def __init__(self, rows: int) -> None:
        self.count = 0
        self.squares, self.total, self.energy = (torch.zeros(rows, dtype=torch.float64) for _ in range(3))

    def add_output(self, output: Tensor, channel: int, mask: Tensor | None) -> None:
        output = output.movedim(channel, -1)
        # Channels that are not last are those of images, whose batch and height are no batch and length.
        counting = without_padding(output, mask) if channel == -1 else output
        flat = counting.flatten(0, -2).double()
        self.count += len(flat)
        self.total += flat.sum(0).cpu()
        self.energy += flat.square().sum(0).cpu()

    def add_gradient(self, gradient: Tensor, channel: int) -> None:
        self.squares += gradient.movedim(channel, -1).flatten(0, -2).double().square().sum(0).cpu()

    def sensitivity(self, items: int) -> Sensitivity:
        variance = self.energy / self.count - (self.total / self.count).square()
        return Sensitivity(self.squares / max(1, items), variance.clamp_min(0))


@dataclass
class _Probes:
    """Whether calls are added to the sums."""

    summing: bool = True


@contextmanager
def _probed(units: Sequence[Unit], sums: Mapping[str, _Sums], mask: Tensor | None) -> Iterator[_Probes]:
    """Inside, every output of a unit is added to its sums; so is its gradient, later, the moment it is complete."""
    probes = _Probes()

    def hook(name: str, module: nn.Module, output: Tensor) -> Tensor:
        kernel = getattr(module, "kernel_size", None)
        channel = -1 if kernel is None else -len(kernel) - 1
        if probes.summing:
            sums[name].add_output(output.detach(), channel, mask)
        if not output.requires_grad:  # nothing before it does; and no leaf, which must not be changed in place
            output = output.detach().requires_grad_().clone()
        if probes.summing:
            output.register_hook(lambda gradient: sums[name].add_gradient(gradient, channel))
        return output

    handles = []
    for unit in units:
        for module in unit.modules():
            handles.append(module.register_forward_hook(partial(lambda name, m, _, y: hook(name, m, y), unit.name)))
    try:
        yield probes
    finally:
        for handle in handles:
            handle.remove()
