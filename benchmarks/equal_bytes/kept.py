"""Keep tensors and facts in a safetensors file of the work folder, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def keep(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, float] | None = None) -> None:
    """Write the file; a process killed meanwhile leaves the one that was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(dense, new, {name: repr(value) for name, value in (facts or {}).items()})
    os.replace(new, path)


def recall(path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """What `keep` was given."""
    with safe_open(path, "pt") as file:
        facts = {name: float(value) for name, value in (file.metadata() or {}).items()}
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
