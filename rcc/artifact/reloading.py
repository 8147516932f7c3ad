"""Compare a model in memory with the artifact that was written of it, by what both put out for one batch.

A layer that runs and is not the one that was written, as one that a forward walks in a list of its own, is noticed by
nothing else: gate, report and artifact would each speak of another model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rcc.artifact.contents import DTYPES, named_tensors, steps_of, stored
from rcc.artifact.load import load
from rcc.artifact.manifest import Manifest, read_manifest
from rcc.errors import WorkError
from rcc.layers.copying import deep_copy
from rcc.layers.grid import from_grid, to_grid
from rcc.layers.model import Batch
from rcc.layers.modes import evaluating
from rcc.layers.redirect import standing_in
from rcc.models.adapter import Adapter

TOLERANCE = 1e-4
"""Largest difference of an output over its largest value. What is left is the order in which sums are taken, which
depends on where tensors lie in memory; for outputs in half precision it is 16 units of their last place."""


@dataclass(frozen=True)
class Answers:
    """A model's outputs for one batch, and the root mean square of each unit's first output, in the order called."""

    outputs: Mapping[str, Tensor]
    layers: Mapping[str, float]


@torch.no_grad()
def answers(model: Adapter, batch: Batch) -> Answers:
    """Run `model` once, in evaluation mode. Outputs come to the CPU."""
    layers: dict[str, float] = {}

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            layers.setdefault(name, float(output.detach().float().square().mean().sqrt()))

    with evaluating(model.module), ExitStack() as hooks:
        for unit in model.units():
            hooks.callback(unit.module.register_forward_hook(partial(note, unit.name)).remove)
        outputs = {name: output.detach().cpu() for name, output in model.outputs(batch).items()}
    return Answers(outputs, layers)


@torch.no_grad()
def round_as_stored(module: nn.Module, manifest: Manifest) -> None:
    """Give every tensor of `module`, in place, the values that it has in the artifact of that manifest."""
    tensors, _ = named_tensors(module)
    for name, step in steps_of(module).items():
        # First, while the matrix still lies on the grid of the steps as they are in memory.
        whole = to_grid(tensors[name].detach(), tensors[step].detach())
        rounded = stored(tensors[step], DTYPES[manifest.tensors[step].dtype]).to(tensors[step].dtype)
        tensors.pop(name).copy_(from_grid(whole, rounded))
    for name, tensor in tensors.items():
        if name in manifest.tensors:
            tensor.copy_(stored(tensor, DTYPES[manifest.tensors[name].dtype]))


def refuse_difference(memory: Answers, reloaded: Answers, artifact: Path | str) -> None:
    """Refuse a reloaded model that does not put out what the one in memory does.

    Raises:
        WorkError: names the largest difference, and the first layer that differs.
    """
    worst = ""
    most = 0.0
    for name, output in memory.outputs.items():
        other = reloaded.outputs.get(name)
        if other is None or other.shape != output.shape:
            found = "no such output" if other is None else f"one of shape {tuple(other.shape)}"
            raise WorkError(
                f"{artifact}: the model in memory puts out '{name}' {tuple(output.shape)}, the reloaded one {found}."
            )
        off = _difference(output, other) / max(TOLERANCE, 16 * _precision(output))
        if off > most:
            worst, most = name, off
    if most <= 1:
        return
    output, other = memory.outputs[worst], reloaded.outputs[worst]
    raise WorkError(
        f"{artifact}: reloaded, it does not give what the model in memory gives: output '{worst}' differs by up to"
        f" {float((output.double() - other.double()).abs().max()):.3g}, {_difference(output, other):.2g} of its largest"
        f" value, on a calibration batch. {_first_layer(memory, reloaded)} Look for a layer that the forward reaches by"
        " another way than its name, as a list or an attribute of another object, or for a tensor that is in no state"
        " dict (persistent=False)."
    )


def _difference(output: Tensor, other: Tensor) -> float:
    """The largest difference over the largest finite value; equal infinities, as of masks, do not differ."""
    one, two = output.double(), other.double()
    apart = torch.where((one == two) | (one.isnan() & two.isnan()), 0.0, (one - two).abs())
    apart = apart.nan_to_num(nan=math.inf)  # a NaN on one side alone
    finite = one[one.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return float(apart.max()) / (largest or 1.0) if apart.numel() else 0.0


def _precision(output: Tensor) -> float:
    half = output.dtype in (torch.float16, torch.bfloat16)
    return torch.finfo(output.dtype).eps if half else 0.0


def _first_layer(memory: Answers, reloaded: Answers) -> str:
    for name, size in reloaded.layers.items():
        before = memory.layers.get(name)
        if before is None:
            return f"Layer {name} ran after reloading and not in memory, where another one ran in its place."
        if abs(size - before) > TOLERANCE * max(size, before):
            return f"The first layer to differ is {name}: root mean square {before:.4g} in memory, {size:.4g} reloaded."
    if lost := [name for name in memory.layers if name not in reloaded.layers]:
        return f"Layer {lost[0]} ran in memory and not after reloading."
    return "Every layer puts out the same: the difference arises outside them."


def check_reloaded(model: Adapter, directory: Path | str, batch: Batch, skeleton: nn.Module | None = None) -> None:
    """Load the artifact that was written of `model` and compare what both put out for `batch`.

    The values of `model` are rounded as the artifact stores them, in a copy: there are three models in memory.

    Args:
        skeleton: for a plain module, another instance of it, as for `rcc.load`.

    Raises:
        UserError: as `rcc.load`.
        WorkError: they differ by more than the order of sums does, see `TOLERANCE`; names the largest difference, and
            the first layer that differs.
    """
    loaded = load(directory, skeleton=skeleton)
    reloaded, rounded = copy.copy(model), copy.copy(model)
    reloaded.module, rounded.module = loaded.module.to(model.device), deep_copy(model.module)
    round_as_stored(rounded.module, read_manifest(Path(directory)))
    with standing_in(rounded, model.module):
        memory = answers(rounded, batch)
    with standing_in(reloaded, model.module):
        refuse_difference(memory, answers(reloaded, batch), directory)
