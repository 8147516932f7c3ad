"""Encode a model's tensors as the bytes of an artifact, one tensor in memory at a time, in the order of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rcc.artifact.contents import stored
from rcc.artifact.entries import TENSOR_DIGITS, Entry, Matrix, Stream, Vector, vector_order
from rcc.artifact.vectors import coded
from rcc.errors import WorkError
from rcc.layers.encoding import encode, encode_dense
from rcc.layers.entropy import Buffer
from rcc.layers.grid import to_grid


@dataclass
class Contents:
    """The manifest's entries of the tensors that were packed so far."""

    tensors: dict[str, Entry] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)


def pack(
    tensors: Mapping[str, Tensor],
    steps: Mapping[str, str],
    dtype: torch.dtype | None,
    entropy: str,
    contents: Contents | None = None,
) -> Iterator[Buffer]:
    """The data of `weights.safetensors`, part by part; what it means is noted in `contents` on the way.

    The vectors of each dtype and of each grid come first, as one tensor, then the matrices by name.

    Args:
        steps: for the name of a quantised matrix, that of its steps.
        dtype: that of the floating-point values stored; None keeps each tensor's own.
        entropy: 'zstd' or 'none'.

    Raises:
        WorkError: a matrix is not on the grid of its steps, or `dtype` does not hold the steps.
    """
    contents = Contents() if contents is None else contents
    # Norms and biases are many and short: together they take one digest and one entropy code, not one each.
    vectors = {name: tensor for name, tensor in tensors.items() if tensor.dim() < 2}
    streams: dict[str, list[Tensor]] = {}
    for name in vector_order(vectors):
        kept = stored(tensors[name], dtype)
        word, values = coded(kept.reshape(-1).cpu())
        entry = Vector(tuple(tensors[name].shape), dtype_name(kept.dtype), word)
        contents.tensors[name] = entry
        if values is not None:
            streams.setdefault(entry.stream, []).append(values)
    # The manifest has lengths and no offsets: who reads it adds them up in the order in which parts are given here.
    for name in sorted(streams):
        parts = encode_dense(torch.cat(streams[name]), entropy).parts
        contents.streams[name] = Stream(tuple(map(len, parts)), digest(parts))
        yield from parts
    for name in sorted(tensors.keys() - vectors.keys()):
        stepped = name in steps
        encoded = encode(
            _whole(name, tensors[name], tensors[steps[name]], dtype) if stepped else stored(tensors[name], dtype),
            entropy,
        )
        contents.tensors[name] = Matrix(
            encoded.shape,
            dtype_name(encoded.dtype),
            encoded.encoding,
            encoded.nonzeros,
            encoded.escapes,
            encoded.lengths,
            digest(encoded.parts),
            stepped,
            encoded.span,
            encoded.outliers,
        )
        yield from encoded.parts


def digest(parts: Iterable[Buffer]) -> str:
    """The start of the SHA-256 of the parts, one after the other."""
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(part)
    return sha256.hexdigest()[:TENSOR_DIGITS]


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _whole(name: str, matrix: Tensor, step: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The whole numbers of a quantised matrix, once `dtype` is known to hold its steps to within its precision."""
    kept = stored(step, dtype)
    # Rounding to nearest errs by half of eps, relatively. More means that the step underflowed or overflowed.
    if bool(((kept.to(step.dtype) - step).abs() > torch.finfo(kept.dtype).eps * step).any()):
        raise WorkError(
            f"{name} {tuple(matrix.shape)}: {kept.dtype} does not hold its quantisation steps, of "
            f"{float(step.min()):.3g} and more. Store the artifact in float32: export.dtype=float32."
        )
    # The values are multiples of the step as it was solved for; of the rounded one they need not be.
    try:
        return to_grid(matrix.detach(), step.detach())
    except ValueError as error:
        raise WorkError(
            f"{name} {tuple(matrix.shape)}: {error}; nothing was written. A stage changed values and kept the steps."
        ) from error
