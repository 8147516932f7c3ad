"""Describe what decides a run's result as plain data, and refuse to resume a run of another description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from rcc.artifact.contents import checksum
from rcc.cascade.bytes.budget import Target
from rcc.cascade.gate import Gate
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.nested import leaves
from rcc.stages.base import Stage

MODEL, CALIBRATION = "model.weights", "calibration"
_DENSE = WeakIdKeyDictionary()
"""Checksums of modules as they were when their run was started. A run changes its model in place, and one that is
resumed in the process that broke off is given that model again: what counts is what it was."""


def described(
    adapter: Adapter,
    stages: Sequence[Stage],
    schedule: Schedule,
    gate: Gate,
    target: Target | None,
    calibration: Sequence[Batch] | None,
    **more: str | int,
) -> dict[str, Any]:
    """All that decides the result of a run but the model's weights, as JSON holds it, in nested mappings.

    Args:
        more: further settings by their name.
    """
    description = {
        "model": {"adapter": adapter.name, "class": type(adapter).__qualname__},
        "stages": "+".join(stage.label for stage in stages),
        "stage": {stage.label: {"method": stage.method, **stage.told()} for stage in stages},
        "schedule": asdict(schedule),
        "gate": _of_gate(gate),
        "target": None if target is None else {"nbytes": target.nbytes, "split": target.split},
        CALIBRATION: None if calibration is None else _checksum_of(calibration),
        **more,
    }
    found: dict[str, Any] = json.loads(json.dumps(description, default=_plain))
    return found


def with_weights(description: Mapping[str, Any], module: nn.Module, resumed: bool) -> dict[str, Any]:
    """The description with the checksum of the dense weights: those of `module`, unless a run has begun to change it
    in this process and is `resumed`."""
    if not resumed or module not in _DENSE:
        _DENSE[module] = f"checksum {checksum(module)[:12]}"
    return {**description, MODEL: _DENSE[module]}


def refuse_another(recorded: Mapping[str, Any], now: Mapping[str, Any], directory: Path) -> None:
    """Refuse to go on from the state in `directory` with what decides the result otherwise than it did.

    Raises:
        UserError: with every difference by its name.
    """
    then, asked = leaves(recorded), leaves(now)
    keys = dict.fromkeys([*then, *asked])
    lines = [_difference(key, then, asked) for key in keys if _said(then, key) != _said(asked, key)]
    if lines:
        raise UserError(
            f"the run in {directory} cannot be resumed, since it would be another:\n    "
            + "\n    ".join(lines)
            + "\n  Give what the run was started with, or start a fresh one in another directory."
        )


def _difference(key: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    before, after = _said(then, key), _said(now, key)
    found = f"{key}: recorded {before}, asked {after}"
    if key == MODEL:
        return f"{found}. Load the dense model that the run was started on; one that was compressed since is another."
    if key == CALIBRATION and None not in (then.get(key), now.get(key)):
        return f"{found}. A loader that shuffles gives other batches each time: turn that off, or seed it."
    return found


def _said(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "nothing"


def _of_gate(gate: Gate) -> dict[str, Any]:
    """What the gate decides steps by. Whether it takes the dense model at all was decided before the first; and a run
    from before there was a confidence had none."""
    return {name: value for name, value in asdict(gate).items() if name != "on_chance" and value is not None}


def _checksum_of(batches: Sequence[Batch]) -> str:
    whole = hashlib.sha256()
    for batch in batches:
        for name, value in sorted(batch.items()):
            whole.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            whole.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"{len(batches)} batches with checksum {whole.hexdigest()[:12]}"


def _plain(value: object) -> Any:
    """What JSON does not know: paths by their name, tensors by their values, other objects by their kind alone."""
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if isinstance(value, Tensor) else type(value).__qualname__
