"""Optimise a loaded model for this machine, by measuring what is fast here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from rcc.errors import Problems, UserError
from rcc.layers.hooks import take_hooks
from rcc.layers.model import Batch, Model
from rcc.layers.units import Unit
from rcc.runtime.agreement import item_cosines
from rcc.runtime.choosing import Chooser
from rcc.runtime.kernels import ALLOWED, CSR, STORED
from rcc.runtime.patches import has_patches
from rcc.runtime.products import has_int8
from rcc.runtime.records import Pick, RuntimePlan
from rcc.runtime.snapshot import Snapshot, cast
from rcc.runtime.timing import interleaved, quantile

RUNTIMES = ("dense", *ALLOWED)
"""What `runtime=` may be; 'dense' leaves the model as it was loaded."""

TIGHTENED = 3  # times the bound on the layers is made ten times tighter before all stay as stored


@torch.no_grad()
def optimise(
    model: Model,
    batch: Batch,
    choice: str = "auto",
    *,
    least_cosine: float = 0.95,
    least_layer_cosine: float = 0.999,
    units: Sequence[Unit] | None = None,
) -> RuntimePlan:
    """Replace the modules of `model` by faster ones, for inference only, and say what was picked.

    First the dtype of the activations: as stored, or bfloat16 where the whole model is faster so. Then, in one pass
    over `batch`, for each linear unit and each convolution without overlap: the fastest kernel on its real input whose
    output is close enough to the stored form's. What is picked depends on the machine, its load and the batch; two
    calls may pick differently.

    Args:
        batch: of the size the model will be used with.
        choice: 'auto'; 'bf16'; 'int8' for all these units; 'csr' for those whose matrices are sparse.
        least_cosine: 'auto' gives speed up until the model's outputs have this mean cosine to those before, both about
            the mean output, see `item_cosines`.
        least_layer_cosine: the same for a unit's output on its own input, see `layer_cosine`.
        units: all of the model's by default.

    Raises:
        UserError: an unknown choice, bounds above 1, int8 on a device or with a torch that lacks it, or a model that
            cannot run in bfloat16 where that was asked for. The model is as it was.
    """
    module = model.module.eval()
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    _check(choice, device, least_cosine, least_layer_cosine)
    every = model.units() if units is None else units
    products = [unit for unit in every if _is_product(unit)]
    forms = {unit.name: unit.read() for unit in products}
    stored = Snapshot(module)
    reference = model.outputs(batch)
    try:
        dtype, before, base, notes = _settle_dtype(model, batch, choice, device, reference, least_cosine)
        chooser = Chooser(forms, dtype, choice, device)
        picks, more = _settle_kernels(model, batch, products, chooser, reference, least_cosine, least_layer_cosine)
    except BaseException:
        stored.put()
        raise
    cosine, centred = item_cosines(model.outputs(batch), reference)
    predicted = before / (base + sum(pick.seconds - chooser.stored_seconds(pick) for pick in picks))
    before, after = _in_turns(model, batch, [stored, Snapshot(module)], device)
    notes += more + _about_units(choice, products, picks)
    if choice == "auto" and after >= before:
        stored.put()
        notes.append(f"What was picked took {after / before:.2f} times as long as the model as stored, which is kept.")
        dtype, after, predicted, cosine, centred = _dtype(module), before, 1.0, 1.0, 1.0
        picks = [replace(pick, kernel=STORED, seconds=pick.stored_seconds, cosine=1.0) for pick in picks]
    module.requires_grad_(False)
    return RuntimePlan(
        choice, _name(dtype), torch.get_num_threads(), tuple(picks),
        before, after, predicted, cosine, centred, tuple(notes),
    )  # fmt: skip


def _settle_dtype(
    model: Model, batch: Batch, choice: str, device: torch.device, reference: Batch, least_cosine: float
) -> tuple[torch.dtype, float, float, list[str]]:
    """Leave the model in the dtype it will run in; returns it, the seconds before and now, and notes."""
    stored = Snapshot(model.module)
    dtype = _dtype(model.module)
    if choice == "csr" or dtype is torch.bfloat16:
        (seconds,) = _in_turns(model, batch, [stored], device)
        return dtype, seconds, seconds, []
    cast(model.module, torch.bfloat16)
    half = Snapshot(model.module)
    try:
        _, cosine = item_cosines(model.outputs(batch), reference)
    except RuntimeError as error:
        if choice == "bf16":
            raise UserError(f"runtime=bf16: the model cannot run in bfloat16 ({error}). Take runtime=auto.") from error
        stored.put()
        (seconds,) = _in_turns(model, batch, [stored], device)
        return dtype, seconds, seconds, [f"The model does not run in bfloat16 ({error})."]
    before, after = _in_turns(model, batch, [stored, half], device)
    half.put()
    if choice == "bf16":
        return torch.bfloat16, before, after, []
    what = f"In bfloat16 the whole model takes {after / before:.2f} times as long, at a cosine of {cosine:.4f}"
    if after < before and cosine >= least_cosine:
        return torch.bfloat16, before, after, []
    stored.put()
    return dtype, before, before, [f"{what}: activations stay in {_name(dtype)}."]


def _settle_kernels(
    model: Model,
    batch: Batch,
    units: Sequence[Unit],
    chooser: Chooser,
    reference: Batch,
    least_cosine: float,
    least_layer_cosine: float,
) -> tuple[list[Pick], list[str]]:
    """Put kernels in place of units, by bounds tightened until the outputs agree; returns the picks and notes."""
    untouched = Snapshot(model.module)
    loss = 1 - least_layer_cosine
    for _ in range(TIGHTENED + 1):
        untouched.put()
        picks, modules = chooser.choose(units, lambda: model.outputs(batch), 1 - loss)
        for unit in units:
            if unit.name in modules:
                _put(unit, modules[unit.name])
        _, cosine = item_cosines(model.outputs(batch), reference)
        if chooser.choice != "auto" or cosine >= least_cosine:
            tightened = loss < 1 - least_layer_cosine
            return picks, [
                f"Only kernels with a layer cosine of {1 - loss:.6g} or more were taken, so that the model "
                f"keeps its outputs to {least_cosine:g}."
            ] if tightened else []
        loss /= 10
    untouched.put()
    as_stored = [replace(pick, kernel=STORED, seconds=chooser.stored_seconds(pick), cosine=1.0) for pick in picks]
    return as_stored, [f"No kernels kept the model's outputs to a cosine of {least_cosine:g}: the units run as stored."]


def _is_product(unit: Unit) -> bool:
    return not unit.obstacle and (unit.kind == "linear" or (unit.kind == "conv" and has_patches(unit.module)))


def _put(unit: Unit, kernel: nn.Module) -> None:
    take_hooks(kernel, unit.module)
    for name in (unit.name, *unit.tied):
        parent, _, child = name.rpartition(".")
        unit.root.get_submodule(parent)._modules[child] = kernel


def _in_turns(model: Model, batch: Batch, versions: Sequence[Snapshot], device: torch.device) -> list[float]:
    """Median seconds of one pass of each version, taken in turns; the last version stays in place."""
    ways = {str(index): lambda: model.outputs(batch) for index in range(len(versions))}
    taken = interleaved(ways, device, {str(index): version.put for index, version in enumerate(versions)})
    versions[-1].put()
    return [quantile(times, 0.5) for times in taken.values()]


def _about_units(choice: str, units: Sequence[Unit], picks: Sequence[Pick]) -> list[str]:
    notes = []
    reached = {pick.unit for pick in picks}
    missed = [unit.name for unit in units if unit.name not in reached]
    if missed:
        notes.append(f"{len(missed)} units stay as stored: the batch did not call them ({missed[0]} is the first).")
    left = [pick for pick in picks if pick.kernel == STORED]
    if choice == CSR and left:
        notes.append(f"{len(left)} of {len(picks)} units hold no matrix with half its values zero, and stay as stored.")
    return notes


def _check(choice: str, device: torch.device, least_cosine: float, least_layer_cosine: float) -> None:
    problems = Problems("runtime")
    problems.choice("choice", choice, ALLOWED)
    for name, value in (("least_cosine", least_cosine), ("least_layer_cosine", least_layer_cosine)):
        problems.check(value <= 1, f"{name} is {value}; a cosine is at most 1.")
    if choice == "int8":
        problems.check(
            device.type == "cpu",
            f"int8 runs on the CPU and the model is on {device}. Take device=cpu, or runtime=bf16 or auto.",
        )
        problems.check(has_int8(), "this build of torch has no int8 product (oneDNN). Take runtime=auto.")
    problems.done()


def _dtype(module: nn.Module) -> torch.dtype:
    return next((tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()), torch.float32)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
