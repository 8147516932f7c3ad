"""Writing `weights.safetensors`, one tensor in memory at a time and always the same bytes for the same model.

The layout is that of the safetensors format (https://huggingface.co/docs/safetensors, "Format"): the header's
length as eight bytes, the JSON header, then the data without gaps. Wider types come first, so that every
tensor is aligned, and names decide among equals.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rcc.artifact.contents import DTYPES, stored
from rcc.artifact.manifest import TensorEntry
from rcc.layers.encoding import encode, encoded_bytes

CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Stored:
    """What a tensor will take: its encoding, and its values with any bit set."""

    encoding: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    nonzeros: int
    nbytes: int

    def entry(self, sha256: str) -> TensorEntry:
        """The tensor's line in the manifest."""
        return TensorEntry(self.encoding, _name(self.dtype), self.shape, self.nonzeros, sha256)


def plan_tensor(tensor: Tensor, dtype: torch.dtype | None, dense: bool = False) -> Stored:
    """How `tensor` is stored in `dtype` (None: its own). On the meta device every value counts as non-zero.

    `dense` forbids the bitmask.
    """
    tensor = stored(tensor, dtype)
    shape, numel, itemsize = tuple(tensor.shape), tensor.numel(), tensor.element_size()
    if tensor.is_meta:
        return Stored("dense", tensor.dtype, shape, numel, numel * itemsize)
    if not torch.is_floating_point(tensor):
        return Stored("dense", tensor.dtype, shape, int(torch.count_nonzero(tensor)), numel * itemsize)
    nonzeros = int(torch.count_nonzero(tensor.contiguous().reshape(-1).view(_BITS[itemsize])))
    nbytes = numel * itemsize if dense else encoded_bytes(numel, nonzeros, itemsize)
    return Stored("dense" if nbytes == numel * itemsize else "bitmask", tensor.dtype, shape, nonzeros, nbytes)


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], plans: Mapping[str, Stored], dtype: torch.dtype | None
) -> dict[str, TensorEntry]:
    """Write the file as planned and return what the manifest says of each tensor, sorted by name.

    Raises:
        OSError: the disk is full or fails.
    """
    keys = sorted(_keys(plans), key=lambda key: (-DTYPES[key.dtype].itemsize, key.key))
    masks: dict[str, Tensor] = {}  # written last, kept from when the values were: an eighth of a byte a value
    digests: dict[str, str] = {}
    with open(path, "xb") as file:
        for piece in _header(keys):
            file.write(piece)
        for key in keys:
            if key.suffix == ".mask":
                file.write(raw(masks.pop(key.name)))
                continue
            tensor = stored(tensors[key.name], dtype)
            if plans[key.name].encoding == "dense":
                parts = {"": tensor.cpu().contiguous()}
            else:
                parts = encode(tensor).parts
                masks[key.name] = parts[".mask"]
            digests[key.name] = digest(parts.values())
            file.write(raw(parts[key.suffix]))
    return {name: plans[name].entry(digests[name]) for name in sorted(plans)}


def digest(parts: Iterable[Tensor]) -> str:
    """SHA-256 of the parts' bytes, one after the other."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(raw(part))
    return sha256.hexdigest()


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor in CPU memory, shared with it."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


@dataclass(frozen=True)
class _Key:
    """One key of the file: the tensor it belongs to, the suffix that names the part, and what it holds."""

    name: str
    suffix: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def key(self) -> str:
        return self.name + self.suffix


def _keys(plans: Mapping[str, Stored]) -> Iterator[_Key]:
    for name, plan in plans.items():
        for suffix, (dtype, shape) in plan.entry("").parts().items():
            yield _Key(name, suffix, dtype, shape)


def _header(keys: list[_Key]) -> tuple[bytes, bytes]:
    header, begin = {}, 0
    for key in keys:
        end = begin + math.prod(key.shape) * DTYPES[key.dtype].itemsize
        header[key.key] = {"dtype": CODES[key.dtype], "shape": key.shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)), text


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
