"""Share the sensitivities of a dense model among the trials of a sweep that begin with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.sensitivity import ITEMS, Sensitivity, sensitivities
from rcc.layers.model import Batch, Model
from rcc.layers.modules import FormModule
from rcc.layers.units import Unit
from rcc.shared import shared

KNOWN = ("rcc", "transformers")
"""Packages whose version says what a module of theirs computes; code of the user's own may change between trials."""
PARTS = ("rows", "variance", "inputs", "columns")


def shared_sensitivities(
    model: Model, units: Sequence[Unit], batches: Sequence[Batch], generator: torch.Generator
) -> dict[str, Sensitivity]:
    """As `sensitivities`; of a model that nothing has compressed yet, one trial of a sweep computes them."""

    def decides() -> dict[str, Any] | None:
        if any(isinstance(module, FormModule) for module in model.module.modules()):
            return None
        if type(model.module).__module__.partition(".")[0] not in KNOWN:
            return None
        return {
            "adapter": f"{type(model).__module__}.{type(model).__qualname__}",
            "module": repr(model.module),
            "weights": _checksum({**dict(model.module.named_parameters()), **dict(model.module.named_buffers())}),
            "batches": [_checksum(batch) for batch in batches],
            "units": [unit.name for unit in units],
            "seed": generator.initial_seed(),
            "items": ITEMS,
        }

    def computed() -> dict[str, Any]:
        found = sensitivities(model, units, batches, generator)
        return {name: _plain(each) for name, each in found.items()}

    found = shared("sensitivities of the dense model's layers", decides, computed)
    return {
        name: Sensitivity(**{part: torch.tensor(values, dtype=torch.float64) for part, values in each.items()})
        for name, each in found.items()
    }


def _plain(sensitivity: Sensitivity) -> dict[str, Any]:
    """Its tensors as lists, without those that it has not."""
    tensors = {part: getattr(sensitivity, part) for part in PARTS}
    return {part: tensor.tolist() for part, tensor in tensors.items() if tensor is not None}


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and every bit of tensors."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
