"""Entropy coding of the bytes of a tensor's parts with zstd (RFC 8878), kept only where it is smaller.

A part is stored as its raw bytes or as one zstd frame, and is a frame exactly when it is shorter than its raw
bytes. The four bytes of zstd's magic number, the same in every frame, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard

ENTROPIES = ("zstd", "none")
FAST_LEVEL, SMALL_LEVEL, SMALL = 1, 19, 1 << 16
"""Parts take the smallest frame of two of the fast level, those under `SMALL` bytes of a high one too: weights hardly
ever repeat, so that nearly all there is to gain is the code of single bytes, which every level builds the same."""
_HARDLY_MATCHING = {"min_match": 7, "hash_log": 6, "search_log": 1}
"""Only long repetitions are copied: short ones are chance, and cost more than the codes of their bytes."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_MOST_PER_BYTE = 1 << 15
"""Each block of a frame takes at least four bytes and gives at most 128 KiB (RFC 8878, 3.1.1.2)."""

Buffer = bytes | memoryview


def compress_part(raw: Buffer) -> Buffer:
    """The frame of `raw`, or `raw` itself where that is not longer."""
    frames = [_frame(raw, FAST_LEVEL, **_HARDLY_MATCHING), _frame(raw, FAST_LEVEL)]
    if len(raw) < SMALL:
        frames.append(_frame(raw, SMALL_LEVEL))
    return min((raw, *frames), key=len)


def compress_text(raw: Buffer) -> Buffer:
    """The frame of text at the high level, whatever its length, or `raw` itself where that is not longer."""
    return min((raw, _frame(raw, SMALL_LEVEL)), key=len)


def expand_part(stored: Buffer, length: int) -> Buffer:
    """The `length` raw bytes of a part.

    Memory is asked for only once `length` is a size that a frame of these bytes can have.

    Raises:
        ValueError: the part is longer than its raw bytes, or is no whole frame of exactly `length` bytes.
    """
    # A frame is stored only where it is shorter than the raw bytes, so that the length alone tells the two apart.
    if len(stored) == length:
        return stored
    if len(stored) > length:
        raise ValueError(f"has a part of {len(stored)} bytes where {length} are needed")
    if length > len(stored) * _MOST_PER_BYTE:
        raise ValueError(f"has a part of {len(stored)} bytes, which cannot hold the {length} it needs")
    frame = _MAGIC + stored
    try:
        # zstd believes a size that the frame declares, and then ignores `max_output_size`: it must be looked at first.
        declared = zstandard.get_frame_parameters(frame).content_size
        if declared not in (zstandard.CONTENTSIZE_UNKNOWN, length):
            raise ValueError(f"has a part that declares {declared} bytes where {length} are needed")
        raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"has a part that is no zstd frame of {length} bytes ({error})") from error
    if len(raw) != length:
        raise ValueError(f"has a part that expands to {len(raw)} bytes where {length} are needed")
    return raw


def compress_values(bits: np.ndarray) -> tuple[Buffer, ...]:
    """Values (n,) of an unsigned type as parts: as they are or, where that is smaller, plane by plane.

    A plane holds one byte of every value, the lowest first. The high bytes of floating-point weights repeat, the low
    ones are noise; apart, each is coded by its own statistics.
    """
    whole = bits.view(np.uint8).data
    if bits.itemsize == 1:
        return (compress_part(whole),)
    planes = bits.view(np.uint8).reshape(-1, bits.itemsize).T
    # No plane is stored longer than it is, so that they are smaller in all unless none of them compresses: then raw
    # bytes as they lie in memory spare the reader putting the planes together.
    parts = tuple(compress_part(np.ascontiguousarray(plane).data) for plane in planes)
    return parts if sum(map(len, parts)) < len(whole) else (whole,)


def expand_values(stored: Sequence[Buffer], count: int, itemsize: int) -> np.ndarray:
    """The bytes (count * itemsize,) of the values that `compress_values` was given, one value after the other.

    Raises:
        ValueError: a part does not fit.
    """
    if len(stored) == 1:
        return np.frombuffer(expand_part(stored[0], count * itemsize), np.uint8)
    planes = [np.frombuffer(expand_part(part, count), np.uint8) for part in stored]
    return np.stack(planes, axis=1).reshape(-1)


def _frame(raw: Buffer, level: int, **options: Any) -> bytes:
    # The manifest has the length and a digest. In thousands of small parts they would count if frames said them again.
    options |= {"write_content_size": False, "write_checksum": False, "write_dict_id": False}
    parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=len(raw), **options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)[len(_MAGIC) :]
