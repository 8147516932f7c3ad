"""Encode a tensor as bytes: dense, or its non-zeros with an index of where they lie; whichever is smallest.

All encodings are exact: what counts as zero is the bit pattern, so even a negative zero comes back as it was.

A few whole numbers far from the others would keep all from lying several in a byte. Such outliers are stored apart, by
an index of their own, and the others as if they were zeros there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rcc.layers.digits import Span, alphabet, pack_digits, packed_length, per_byte, unpack_digits
from rcc.layers.entropy import Buffer, compress_part, compress_values, expand_part, expand_values
from rcc.layers.estimate import bodies
from rcc.layers.indices import (
    INDICES,
    MOST_CSR_COLUMNS,
    count_escapes,
    index_lengths,
    matrix_shape,
    pack_index,
    unpack_index,
)

ENCODINGS = ("dense", *INDICES)
STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WITHIN, INDEX_WITHIN = 2, 4
"""Entropy coding is tried on the encodings whose raw bytes, and raw bytes of the index, are within these factors of the
least. Gaps start from a byte a value and come closer to the entropy than the mask, from 2/3 to 4/5 of zeros on."""
ALIGNED = 64
"""Bytes at whose multiples torch begins its own tensors: of memory elsewhere, products may sum in another order."""
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Outliers:
    """How the outliers of a tensor are stored: by which index, how many, and the bytes of 255 among its gaps."""

    encoding: str
    nonzeros: int
    escapes: int


@dataclass(frozen=True)
class Encoded:
    """A tensor as stored.

    `parts` are the index's (none when dense) and then the values': one, or one for each byte of a value. A part
    shorter than its raw bytes is entropy-coded. `nonzeros` counts the values stored; `escapes` the bytes of 255
    among the gaps. With a `span` the values are whole numbers of few levels, several in a byte; all this is then of
    those that are no outliers, whose parts, those of their index and one of values, come last.
    """

    encoding: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    nonzeros: int
    escapes: int
    parts: tuple[Buffer, ...]
    span: Span | None = None
    outliers: Outliers | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(map(len, self.parts))

    @property
    def nbytes(self) -> int:
        return sum(self.lengths)

    @property
    def numel(self) -> int:
        rows, columns = matrix_shape(self.shape)
        return rows * columns


def encoded_bytes(numel: int, nonzeros: int, itemsize: int) -> int:
    """The most bytes `encode` writes for `numel` values of which `nonzeros` are not zero, wherever these lie.

    An upper bound, close for values scattered at random: runs of zeros longer than 254 cost the gaps a byte for every
    255 zeros at most, CSR may be smaller yet, and so is what entropy coding makes of them.
    """
    index = min(-(-numel // 8), nonzeros + (numel - nonzeros) // 255)
    return min(numel * itemsize, index + nonzeros * itemsize)


def encode_dense(tensor: Tensor, entropy: str = "none") -> Encoded:
    """`tensor` with all its values, entropy-coded where that is asked for ('zstd') and smaller."""
    tensor = tensor.detach().cpu().contiguous()
    return Encoded(
        "dense",
        tuple(tensor.shape),
        tensor.dtype,
        tensor.numel(),
        0,
        _values(_bits(tensor), entropy, None, zero=True)[0],
    )


def encode(tensor: Tensor, entropy: str = "none") -> Encoded:
    """`tensor` in the smallest of the encodings, on a tie the first of them.

    Whole numbers (int8) of at most 16 levels have several values packed into a byte, where that is smaller; with more
    levels those of them that are no outliers.

    Args:
        entropy: 'zstd' codes each part where that is smaller, and compares the encodings after it; 'none' leaves
            the parts as they are, which for a dense tensor are its own memory.
    """
    tensor = tensor.detach().cpu().contiguous()
    together = _encoded(tensor, entropy, ENCODINGS)
    if entropy == "none" or tensor.dtype != torch.int8 or tensor.dim() < 2 or together.span is not None:
        return together
    found = [together]
    for largest in bodies(np.bincount(_bits(tensor), minlength=256)):
        found += _apart(tensor, largest, entropy)
    return min(found, key=lambda encoded: encoded.nbytes)


def _apart(whole: Tensor, largest: int, entropy: str) -> Iterator[Encoded]:
    """Whole numbers with those beyond ±`largest` apart, where the others then lie several in a byte."""
    numbers = whole.numpy()
    far = np.abs(numbers.astype(np.int16)) > largest
    body = _encoded(torch.from_numpy(np.where(far, np.int8(0), numbers)), entropy, ENCODINGS)
    rest = _encoded(torch.from_numpy(np.where(far, numbers, np.int8(0))), entropy, INDICES)
    if body.span is not None and rest.span is None:
        outliers = Outliers(rest.encoding, rest.nonzeros, rest.escapes)
        yield replace(body, parts=(*body.parts, *rest.parts), outliers=outliers)


def _encoded(tensor: Tensor, entropy: str, encodings: Sequence[str]) -> Encoded:
    """A contiguous tensor in the smallest of these encodings, with no outliers."""
    shape, bits = tuple(tensor.shape), _bits(tensor)
    rows, columns = matrix_shape(shape)
    present = bits != 0
    nonzeros, itemsize = int(np.count_nonzero(present)), bits.itemsize
    escapes, raw = 0, {"bitmask": -(-bits.size // 8)}
    if nonzeros <= INDEX_WITHIN * raw["bitmask"]:  # with a byte a value, or more, the rest cannot be smaller
        escapes = count_escapes(present)
        raw["gaps"] = nonzeros + escapes
        if columns <= MOST_CSR_COLUMNS:
            raw["csr"] = sum(index_lengths("csr", rows, columns, nonzeros, escapes))
    least = min(raw.values())
    span = _span(tensor.dtype, bits)

    def dense() -> Encoded:
        parts, chosen = _values(bits, entropy, span, zero=True)
        return Encoded("dense", shape, tensor.dtype, tensor.numel(), 0, parts, chosen)

    def stored(encoding: str, values: tuple[Buffer, ...], chosen: Span | None) -> Encoded:
        index = pack_index(encoding, present, rows, columns)
        parts: tuple[Buffer, ...] = tuple(part.data for part in index)
        if entropy != "none":
            parts = tuple(map(compress_part, parts))
        marks = escapes if encoding == "gaps" else 0
        return Encoded(encoding, shape, tensor.dtype, nonzeros, marks, (*parts, *values), chosen)

    def candidates() -> Iterator[Encoded]:
        whole = _raw_bytes(bits.size, itemsize, span, zero=True)
        packed = least + _raw_bytes(nonzeros, itemsize, span, zero=False)
        reach, index_reach = (WITHIN, INDEX_WITHIN) if entropy != "none" else (1, 1)
        if "dense" in encodings and whole <= reach * packed:
            yield dense()
        if "dense" not in encodings or packed <= reach * whole:
            values, chosen = _values(bits[np.flatnonzero(present)], entropy, span, zero=False)
            yield from (stored(index, values, chosen) for index in raw if raw[index] <= index_reach * least)

    return min(candidates(), key=lambda encoded: encoded.nbytes)


def decode(encoded: Encoded, take: bool = False) -> Tensor:
    """The tensor `encode` was given, bit for bit, in memory of its own.

    Args:
        take: nobody else holds the parts: where they are the values as they are, their memory becomes the tensor's.

    Raises:
        ValueError: the parts do not fit the shape or dtype, or the index and the values disagree.
    """
    values, where = _contents(encoded)
    if where is None and take and values.flags.writeable and values.ctypes.data % ALIGNED == 0:
        signed = torch.from_numpy(
            values.view(values.dtype.str.replace("u", "i") if values.itemsize > 1 else values.dtype)
        )
        tensor = signed.view(encoded.dtype)
    else:
        tensor = (torch.empty if where is None else torch.zeros)(encoded.numel, dtype=encoded.dtype)
        _bits(tensor)[... if where is None else where] = values
    if encoded.outliers is not None:
        bits = _bits(tensor)
        far, places = _contents(_outliers_of(encoded))
        if bits[places].any():
            raise ValueError("has an outlier where it has another value")
        bits[places] = far
    return tensor.reshape(encoded.shape)


def check(encoded: Encoded) -> None:
    """Raise what `decode` would, without the memory of the tensor.

    Raises:
        ValueError: the parts do not fit the shape or dtype, or the index and the values disagree.
    """
    values, where = _contents(encoded)
    if encoded.outliers is not None:
        _, places = _contents(_outliers_of(encoded))
        assert places is not None
        taken = np.flatnonzero(values) if where is None else where
        if np.intersect1d(taken, places, assume_unique=True).size:
            raise ValueError("has an outlier where it has another value")


def _outliers_of(encoded: Encoded) -> Encoded:
    """The outliers as a tensor of their own."""
    assert encoded.outliers is not None
    how = encoded.outliers
    parts = encoded.parts[_body_parts(encoded) :]
    return Encoded(how.encoding, encoded.shape, encoded.dtype, how.nonzeros, how.escapes, parts)


def _body_parts(encoded: Encoded) -> int:
    """How many of its parts are those of all but its outliers: those of the index and one of digits."""
    if encoded.outliers is None:
        return len(encoded.parts)
    if encoded.encoding == "dense":
        return 1
    rows, columns = matrix_shape(encoded.shape)
    return 1 + len(index_lengths(encoded.encoding, rows, columns, encoded.nonzeros, encoded.escapes))


def _contents(encoded: Encoded) -> tuple[np.ndarray, np.ndarray | None]:
    """The values' bits, and which flat positions they go to: None for all."""
    rows, columns = matrix_shape(encoded.shape)
    itemsize = encoded.dtype.itemsize
    lengths: tuple[int, ...] = ()
    count, where = encoded.nonzeros, None
    if encoded.encoding == "dense":
        count = encoded.numel
    else:
        lengths = index_lengths(encoded.encoding, rows, columns, count, encoded.escapes)
    of_values = encoded.parts[len(lengths) : _body_parts(encoded)]
    if len(of_values) not in (1, itemsize):
        raise ValueError(f"has {len(encoded.parts)} parts, which are not those of {encoded.encoding}")
    if encoded.span is None:
        values = expand_values(of_values, count, itemsize).view(_UNSIGNED[itemsize])
    else:
        numbers = alphabet(encoded.span, zero=not lengths)
        part = expand_part(of_values[0], packed_length(count, len(numbers)))
        values = unpack_digits(part, count, numbers).view(np.uint8)
    if lengths:
        index = [expand_part(part, length) for part, length in zip(encoded.parts, lengths, strict=False)]
        where = unpack_index(encoded.encoding, index, rows, columns, count)
    return values, where


def value_lengths(parts: int, count: int, itemsize: int, span: Span | None, zero: bool) -> tuple[int, ...]:
    """Raw bytes of `parts` parts of values: all in one, or one for each byte of a value."""
    if parts == 1:
        return (_raw_bytes(count, itemsize, span, zero),)
    return (count,) * itemsize


def _raw_bytes(count: int, itemsize: int, span: Span | None, zero: bool) -> int:
    return count * itemsize if span is None else packed_length(count, len(alphabet(span, zero)))


def _values(bits: np.ndarray, entropy: str, span: Span | None, zero: bool) -> tuple[tuple[Buffer, ...], Span | None]:
    """The values' parts, and their span where they are packed."""
    digits = None if span is None else pack_digits(bits.view(np.int8), alphabet(span, zero)).data
    if entropy == "none":
        return (bits.view(np.uint8).data if digits is None else digits,), span
    whole = compress_values(bits)
    if digits is None:
        return whole, None
    packed = compress_part(digits)
    return (whole, None) if sum(map(len, whole)) < len(packed) else ((packed,), span)


def _span(dtype: torch.dtype, bits: np.ndarray) -> Span | None:
    """The least and the largest of whole numbers, where a byte holds several of them; None otherwise."""
    if dtype != torch.int8 or not len(bits):
        return None
    whole = bits.view(np.int8)
    span = int(whole.min()), int(whole.max())
    return span if span[0] == span[1] or per_byte(len(alphabet(span, zero=False))) > 1 else None


def _bits(tensor: Tensor) -> np.ndarray:
    """The values' bits as unsigned integers (numel,), shared: moved as half floats, NaNs would lose their payload."""
    size = tensor.element_size()
    bits: np.ndarray = tensor.reshape(-1).view(_SIGNED[size]).numpy().view(_UNSIGNED[size])
    return bits
