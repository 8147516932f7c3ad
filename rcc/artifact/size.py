"""Measure the bytes of artifacts and dense directories on disk, and compute them before anything is written."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rcc.artifact.contents import named_tensors, steps_of, stored
from rcc.artifact.packing import pack
from rcc.artifact.weights import write_checkpoint
from rcc.atomic import PARTIAL, disk_errors
from rcc.errors import UserError, unknown
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.form import Size
from rcc.models.adapter import Adapter

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class ArtifactSize:
    """Bytes on disk, by `os.stat`: of the weights alone, and of every file of the directory or of the one file."""

    weights_bytes: int
    directory_bytes: int


def directory_bytes(directory: Path | str) -> int:
    """Bytes of all files under `directory`, or of the one file that it is, by `os.stat`."""
    if Path(directory).is_file():
        return Path(directory).stat().st_size
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())


def dense_bytes(adapter: Adapter, dtype: str | None, scratch: Path | str) -> int:
    """Bytes on disk of the model as a plain loadable directory: dense safetensors and the adapter's files.

    To be asked of the dense model. The directory is written under `scratch`, measured and removed.

    Args:
        dtype: 'float32', 'float16' or 'bfloat16'; None keeps each tensor's own.
    """
    target = storage_dtype(dtype)
    tensors, _ = named_tensors(adapter.module)
    with disk_errors(Path(scratch)):
        Path(scratch).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dense-", suffix=PARTIAL, dir=scratch) as directory:
            adapter.save_files(Path(directory))
            write_checkpoint(Path(directory) / "model.safetensors", tensors, target)
            return directory_bytes(directory)


@torch.no_grad()
def model_size(adapter: Adapter, dtype: torch.dtype | None, entropy: str = "zstd") -> Size:
    """The size of the model as `write_artifact` would write it in `dtype`: exact, without writing.

    `nbytes` is the data section of `weights.safetensors`. On the meta device all values are counted, as non-zeros and
    stored as they are.

    Raises:
        WorkError: a quantised matrix is not on its grid, or `dtype` does not hold its steps.
    """
    tensors, _ = named_tensors(adapter.module)
    steps = steps_of(adapter.module)
    numel = sum(tensor.numel() for tensor in tensors.values())
    if any(tensor.is_meta for tensor in tensors.values()):
        sizes = (
            tensor.numel() * (1 if name in steps else stored(tensor, dtype).element_size())
            for name, tensor in tensors.items()
        )
        return Size(nbytes=sum(sizes), stored=numel, nonzeros=numel)
    return Size(
        nbytes=sum(map(len, pack(tensors, steps, dtype, entropy))),
        stored=numel,
        nonzeros=sum(_nonzeros(stored(tensor, dtype)) for tensor in tensors.values()),
    )


def _nonzeros(tensor: Tensor) -> int:
    """Values with any bit set, so that a negative zero counts: it is stored."""
    return int(torch.count_nonzero(tensor.contiguous().reshape(-1).view(_BITS[tensor.element_size()])))


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
