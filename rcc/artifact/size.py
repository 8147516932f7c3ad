"""Bytes, measured with `os.stat` on what was written, and computed before anything is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from rcc.artifact.contents import named_tensors
from rcc.artifact.weights import plan_tensor, write_weights
from rcc.atomic import disk_errors
from rcc.errors import UserError, unknown
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.size import Size
from rcc.models.adapter import Adapter


@dataclass(frozen=True)
class ArtifactSize:
    """Bytes on disk, by `os.stat`: of `weights.safetensors` alone, and of every file of the directory."""

    weights_bytes: int
    directory_bytes: int


def directory_bytes(directory: Path | str) -> int:
    """Bytes of all files under `directory`, by `os.stat`."""
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())


def dense_bytes(adapter: Adapter, dtype: str | None, scratch: Path | str) -> int:
    """Bytes on disk of the model as a plain loadable directory: dense safetensors and the adapter's files.

    To be asked of the dense model. The directory is written under `scratch`, measured and removed.

    Args:
        dtype: 'float32', 'float16' or 'bfloat16'; None keeps each tensor's own.
    """
    target = storage_dtype(dtype)
    tensors, _ = named_tensors(adapter.module)
    plans = {name: plan_tensor(tensor, target, dense=True) for name, tensor in tensors.items()}
    with disk_errors(Path(scratch)):
        Path(scratch).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dense-", dir=scratch) as directory:
            adapter.save_files(Path(directory))
            write_weights(Path(directory) / "model.safetensors", tensors, plans, target)
            return directory_bytes(directory)


@torch.no_grad()
def model_size(adapter: Adapter, dtype: torch.dtype | None) -> Size:
    """What `write_artifact` would write for the model as it stands, in `dtype`: exact, without writing.

    `nbytes` is the data section of `weights.safetensors`. On the meta device every value counts as non-zero.
    """
    tensors, _ = named_tensors(adapter.module)
    plans = [plan_tensor(tensor, dtype) for tensor in tensors.values()]
    return Size(
        nbytes=sum(plan.nbytes for plan in plans),
        stored=sum(tensor.numel() for tensor in tensors.values()),
        nonzeros=sum(plan.nonzeros for plan in plans),
    )


def storage_dtype(name: str | None) -> torch.dtype | None:
    """The dtype values are stored in; None, for None, keeps each tensor's own.

    Raises:
        UserError: a dtype the artifact is not stored in.
    """
    if name is None:
        return None
    if name not in STORED_DTYPES:
        raise UserError(unknown("artifact dtype", str(name), STORED_DTYPES))
    return STORED_DTYPES[name]
