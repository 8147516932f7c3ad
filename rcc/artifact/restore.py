"""Restore a model from an artifact: the structure of its units, then their weights; all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from rcc.artifact.contents import FORM_PARTS, PLAIN_PARTS, named_tensors, parts_of
from rcc.artifact.manifest import Manifest, read_manifest
from rcc.artifact.verify import StoredWeights, check_files, stored_weights
from rcc.errors import Problems, UserError, listed
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.models.adapter import Adapter

Parts = Mapping[str, tuple[int, ...]]


def restore(adapter: Adapter, directory: Path | str, dtype: torch.dtype | None = None, verify: bool = True) -> None:
    """Make the model in `adapter` the one that was written to `directory`.

    Units take the form they had when written, whatever form they have now. Everything is checked before the
    first weight changes, so that a refused artifact leaves the model as it was. Tensors get memory of their
    own on the model's device; what was frozen stays frozen.

    Args:
        dtype: floating-point tensors are cast to it; None keeps the dtypes as stored.
        verify: compare every byte with its SHA-256 first.

    Raises:
        UserError: the directory is no artifact of this model, or it is damaged; names the tensor or the file.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest.adapter != adapter.name:
        raise UserError(
            f"{directory} holds a model of the adapter '{manifest.adapter}' and was to be put into "
            f"'{adapter.name}': load it with rcc.load, or give a directory of this model."
        )
    if verify:
        check_files(directory, manifest)
    restore_weights(adapter, manifest, directory, dtype, verify)


@torch.no_grad()
def restore_weights(
    adapter: Adapter,
    manifest: Manifest,
    directory: Path,
    dtype: torch.dtype | None = None,
    verify: bool = True,
    fresh: bool = False,
) -> None:
    """As `restore`, for a manifest that was read and an adapter's files that were checked before.

    Args:
        fresh: the adapter is nobody's yet, so that what is verified may be put into it one tensor after the other.
    """
    with stored_weights(directory, manifest) as weights:
        changes = _checked(adapter, manifest, directory)
        if verify and not fresh:
            weights.verify()
        device = adapter.device
        _reshape(changes)
        with weights.verified_by_reading() if verify and fresh else nullcontext():
            _fill(adapter, weights, device if device.type != "meta" else torch.device("cpu"), dtype)


def rebuild(adapter: Adapter, manifest: Manifest, directory: Path) -> None:
    """Give the model's units the forms of the artifact, with nothing in them: parameters on the meta device.

    Raises:
        UserError: the artifact is not of this model; nothing was changed.
    """
    _reshape(_checked(adapter, manifest, directory))


def _checked(adapter: Adapter, manifest: Manifest, directory: Path) -> list[tuple[Unit, Parts]]:
    changes = _changes(adapter, manifest, directory)
    _check_names(adapter, manifest, changes, directory)
    _check_buffers(adapter, directory)
    return changes


def _check_buffers(adapter: Adapter, directory: Path) -> None:
    """Refuse a model with buffers that neither it nor the artifact has values for."""
    empty = [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in adapter.module.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_meta and name in module._non_persistent_buffers_set
    ]
    if empty:
        raise UserError(
            f"{directory}: the model has no values for {listed(empty)}: buffers that are not persistent are in no file,"
            " and these are on the meta device. Build the model with real buffers: outside torch.device('meta'), or"
            " with accelerate.init_empty_weights(include_buffers=False)."
        )


def _reshape(changes: list[tuple[Unit, Parts]]) -> None:
    for unit, stored in changes:
        unit.write(_empty_form(unit, stored))


def _changes(adapter: Adapter, manifest: Manifest, directory: Path) -> list[tuple[Unit, Parts]]:
    """The units whose tensors must be others than now, with the shapes they must have."""
    problems = Problems(str(directory))
    modules = manifest.modules()
    changes: list[tuple[Unit, Parts]] = []
    for unit in adapter.units():
        if unit.kind == "norm":
            continue
        stored = {
            part: manifest.tensors[name].shape
            for part, name in modules.get(unit.name, {}).items()
            if part in (*PLAIN_PARTS, *FORM_PARTS)
        }
        if unit.obstacle and stored.keys() <= set(PLAIN_PARTS):
            continue  # left as it is: its tensors are compared by name, whichever parametrisation gives them
        if not problems.check(
            bool(stored), f"the model's unit '{unit.name}' is not in the artifact: it was written of another model."
        ):
            continue
        if parts_of(unit) == stored:
            continue
        problem = _misfit(unit, stored)
        if problems.check(not problem, f"unit '{unit.name}' does not fit the model: {problem}."):
            changes.append((unit, stored))
    problems.done()
    return changes


def _misfit(unit: Unit, parts: Parts) -> str:
    """The reason for which the unit cannot be given these parts; empty if it can."""
    if unit.obstacle:
        return unit.obstacle
    try:
        form = _empty_form(unit, parts)
    except (ValueError, RuntimeError) as error:
        return str(error)
    if form.shape != unit.shape:
        return f"its shape is {form.shape} and the model's is {unit.shape}"
    if form.left is not None and not unit.factorable:
        return "the model's cannot hold a low-rank pair"
    if form.rank is not None and form.rank > sum(unit.shape):  # no use to anyone, and memory without bound
        return f"its rank is {form.rank} for a weight of {unit.shape}"
    return ""


def _empty_form(unit: Unit, parts: Parts) -> Form:
    """The form of these parts on the meta device: shapes and no data."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in parts.items()}
    weight = tensors.pop("weight", None)
    if weight is not None:
        if not tensors.keys() <= {"bias"}:
            raise ValueError(f"it holds {', '.join(sorted(parts))}, which is no form of a weight")
        if weight.dim() < 2:
            raise ValueError(f"its weight {tuple(weight.shape)} is no matrix")
        kernel = tuple(getattr(unit.module, "kernel_size", ()))
        if tuple(weight.shape[2:]) != kernel:
            raise ValueError(f"its kernel is {tuple(weight.shape[2:])} and the model's is {kernel}")
        tensors["sparse"] = unit.as_matrix(weight)
    return Form(**tensors)


def _check_names(adapter: Adapter, manifest: Manifest, changes: list[tuple[Unit, Parts]], directory: Path) -> None:
    """Compare the artifact's tensors, their shapes and ties, with those of the model once it is changed."""
    tensors, tied = named_tensors(adapter.module)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for unit, stored in changes:
        for name in (unit.name, *unit.tied):
            for part in parts_of(unit):
                shapes.pop(f"{name}.{part}", None)
                tied.pop(f"{name}.{part}", None)
        for part, shape in stored.items():
            shapes[f"{unit.name}.{part}"] = shape
            tied |= {f"{name}.{part}": f"{unit.name}.{part}" for name in unit.tied}
    problems = Problems(str(directory))
    for name in sorted(shapes.keys() - manifest.tensors.keys()):
        problems.check(False, f"tensor '{name}' of the model is missing from the artifact.")
    for name in sorted(manifest.tensors.keys() - shapes.keys()):
        problems.check(False, f"tensor '{name}' of the artifact has no place in the model.")
    for name in sorted(shapes.keys() & manifest.tensors.keys()):
        found = manifest.tensors[name].shape
        problems.check(found == shapes[name], f"tensor '{name}' is {found} and the model needs {shapes[name]}.")
    for alias in sorted(tied.keys() | manifest.tied.keys()):
        one, other = manifest.tied.get(alias), tied.get(alias)
        problems.check(one == other, f"tensor '{alias}' is tied to {one} in the artifact, to {other} in the model.")
    problems.done()


def _fill(adapter: Adapter, weights: StoredWeights, device: torch.device, dtype: torch.dtype | None) -> None:
    for name in weights.manifest.tensors:
        _set(adapter.module, name, weights.read(name, dtype).to(device))
    for alias, name in weights.manifest.tied.items():
        owner, key = _owner(adapter.module, name)
        _set(adapter.module, alias, getattr(owner, key))


def _set(root: nn.Module, name: str, tensor: Tensor) -> None:
    owner, key = _owner(root, name)
    now = getattr(owner, key)
    if isinstance(now, nn.Parameter) and not isinstance(tensor, nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=now.requires_grad and torch.is_floating_point(tensor))
    setattr(owner, key, tensor)


def _owner(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    module, _, key = name.rpartition(".")
    return root.get_submodule(module), key
