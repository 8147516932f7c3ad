"""How a matrix becomes bytes: dense, or a bitmask with the packed non-zeros; whichever is smaller.

Both are exact: what counts as zero is the bit pattern, so even a negative zero comes back as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ENCODINGS = ("dense", "bitmask")
STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Encoded:
    """A tensor as stored: `parts` are its byte-holding tensors, by suffix ('' alone when dense)."""

    encoding: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        return sum(part.numel() * part.element_size() for part in self.parts.values())


def encoded_bytes(numel: int, nonzeros: int, itemsize: int) -> int:
    """Bytes `encode` writes for `numel` values of which `nonzeros` are not zero."""
    return min(numel * itemsize, -(-numel // 8) + nonzeros * itemsize)


def encode(tensor: Tensor) -> Encoded:
    """`tensor` in the smaller of the two encodings, dense on a tie. Dense shares the tensor's memory."""
    tensor = tensor.detach().cpu().contiguous()
    shape = tuple(tensor.shape)
    if not torch.is_floating_point(tensor):
        return Encoded("dense", shape, tensor.dtype, {"": tensor})
    bits = _bits(tensor)
    present = bits != 0
    nonzeros = int(torch.count_nonzero(present))
    numel, itemsize = tensor.numel(), tensor.element_size()
    if encoded_bytes(numel, nonzeros, itemsize) >= numel * itemsize:
        return Encoded("dense", shape, tensor.dtype, {"": tensor})
    mask = torch.from_numpy(np.packbits(present.numpy()))
    return Encoded("bitmask", shape, tensor.dtype, {".mask": mask, ".values": bits[present].view(tensor.dtype)})


def decode(encoded: Encoded) -> Tensor:
    """The tensor `encode` was given, bit for bit, in memory of its own.

    Raises:
        ValueError: the parts do not fit the shape or dtype, or the mask and the values disagree on the count.
    """
    numel = int(np.prod(encoded.shape, dtype=np.int64))
    if encoded.encoding == "dense":
        tensor = encoded.parts[""]
        if tensor.dtype != encoded.dtype:
            raise ValueError(f"holds {tensor.dtype} where {encoded.dtype} is declared")
        if tensor.numel() != numel:
            raise ValueError(f"holds {tensor.numel()} values where shape {encoded.shape} needs {numel}")
        return tensor.reshape(encoded.shape).clone()
    mask, values = encoded.parts[".mask"], encoded.parts[".values"]
    if values.dtype != encoded.dtype:
        raise ValueError(f"holds {values.dtype} where {encoded.dtype} is declared")
    if mask.numel() != -(-numel // 8):
        raise ValueError(f"mask of {mask.numel()} bytes where shape {encoded.shape} needs {-(-numel // 8)}")
    present = torch.from_numpy(np.unpackbits(mask.numpy(), count=numel).view(np.bool_))
    found = int(torch.count_nonzero(present))
    if found != values.numel():
        raise ValueError(f"mask marks {found} values and {values.numel()} are stored")
    flat = torch.zeros(numel, dtype=encoded.dtype)
    _bits(flat)[present] = _bits(values)
    return flat.reshape(encoded.shape)


def _bits(tensor: Tensor) -> Tensor:
    """The values' bits as integers (numel,), shared: moved as half floats, NaNs would lose their payload."""
    return tensor.reshape(-1).view(_BITS[tensor.element_size()])
