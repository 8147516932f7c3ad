"""Write safetensors files: an artifact's packed one, and a plain checkpoint of a dense model.

Both are safetensors (https://huggingface.co/docs/safetensors, "Format"): the header's length as eight bytes, the
JSON header, then the data without gaps.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rcc.artifact.contents import stored
from rcc.artifact.packing import dtype_name
from rcc.layers.entropy import Buffer

KEY = "data"
"""The one key of a packed file: a `U8` tensor of all bytes, so that the manifest alone names the tensors."""
_HEADER_BYTES = 88  # room for a length of 15 digits; a multiple of 8
PACKED_HEADER = 8 + _HEADER_BYTES
"""Bytes of a packed file before its data."""
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write_packed(path: Path, parts: Iterable[Buffer]) -> None:
    """Write `parts` one after the other as the one tensor of the file. The header, whose length is fixed, goes last.

    Raises:
        OSError: the file exists, or the disk is full or fails.
    """
    with open(path, "xb") as file:
        file.write(_header({}, _HEADER_BYTES))
        length = 0
        for part in parts:
            file.write(part)
            length += len(part)
        file.seek(0)
        file.write(_header({KEY: {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}, _HEADER_BYTES))


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    """Write every tensor densely under its name, floating point in `dtype` (None: as it is), as any tool reads it.

    Wider types come first, so that every tensor is aligned, and names decide among equals.

    Raises:
        OSError: the file exists, or the disk is full or fails.
    """
    header, _ = _layout(tensors, dtype)
    with open(path, "xb") as file:
        file.write(_header(header))
        for name in header:
            tensor = stored(tensors[name], dtype).cpu().contiguous()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def checkpoint_bytes(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> int:
    """Bytes of the file that `write_checkpoint` would write; the tensors may be on the meta device."""
    header, data = _layout(tensors, dtype)
    return len(_header(header)) + data


def _layout(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> tuple[dict[str, dict[str, Any]], int]:
    """The header of a checkpoint, in the order of its data, and the bytes of these."""
    types = {name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()}
    kept = {name: stored(empty, dtype).dtype for name, empty in types.items()}
    header, begin = {}, 0
    for name in sorted(tensors, key=lambda name: (-kept[name].itemsize, name)):
        end = begin + tensors[name].numel() * kept[name].itemsize
        header[name] = {
            "dtype": _CODES[dtype_name(kept[name])],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
        begin = end
    return header, begin


def _header(header: Mapping[str, object], length: int = 0) -> bytes:
    """The header with its length before it, padded with spaces to `length` or to the next multiple of 8."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (length - len(text) if length else -len(text) % 8)
    return struct.pack("<Q", len(text)) + text
