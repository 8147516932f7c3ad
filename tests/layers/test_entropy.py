"""Entropy coding against the zstandard package called directly, and every way a part can be wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcc.layers.entropy import SMALL, compress_part, compress_values, expand_part, expand_values

MAGIC = b"\x28\xb5\x2f\xfd"
SKEWED = bytes(np.random.default_rng(0).geometric(0.3, 20_000).clip(max=255).astype(np.uint8))


@given(st.binary(max_size=300) | st.binary(max_size=8).map(lambda piece: piece * 50))
def test_any_part_comes_back_and_is_never_longer(raw: bytes) -> None:
    stored = compress_part(raw)
    assert len(stored) <= len(raw)
    assert bytes(expand_part(stored, len(raw))) == raw


@pytest.mark.parametrize("raw", [SKEWED, bytes(100_000), SKEWED * (SMALL // len(SKEWED) + 1)])
def test_a_stored_part_is_a_frame_of_zstd_without_its_magic_number(raw: bytes) -> None:
    stored = compress_part(raw)
    assert len(stored) < len(raw)
    frame = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(MAGIC + stored))
    assert frame.read(len(raw) + 1) == raw


def test_a_part_takes_what_a_direct_call_makes_of_it_less_the_magic_number() -> None:
    parameters = [
        zstandard.ZstdCompressionParameters.from_level(
            level, source_size=len(SKEWED), write_content_size=False, **options
        )
        for level, options in ((1, {}), (19, {}), (1, {"min_match": 7, "hash_log": 6, "search_log": 1}))
    ]
    direct = [len(zstandard.ZstdCompressor(compression_params=each).compress(SKEWED)) for each in parameters]
    assert len(compress_part(SKEWED)) == min(direct) - 4
    assert direct[2] == min(direct) < direct[0]


def test_noise_stays_as_it_is() -> None:
    noise = np.random.default_rng(0).bytes(5000)
    assert compress_part(noise) is noise


@given(
    st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.integers(0, 60), elements=st.integers(0, 300 if dtype != np.uint8 else 255))
    )
)
def test_values_of_any_width_come_back(bits: np.ndarray) -> None:
    parts = compress_values(bits)
    assert len(parts) in (1, bits.itemsize)
    assert sum(map(len, parts)) <= bits.nbytes
    back = expand_values(parts, len(bits), bits.itemsize)
    assert back.tobytes() == bits.tobytes()


def test_planes_hold_a_byte_of_every_value_the_lowest_first() -> None:
    draw = np.random.default_rng(0)
    low = draw.integers(0, 256, 4000)
    bits = (low + 256 * 7).astype(np.uint16)
    noise, constant = compress_values(bits)
    assert bytes(noise) == low.astype(np.uint8).tobytes()
    assert len(constant) < 20
    assert bytes(expand_part(constant, 4000)) == b"\7" * 4000


def test_values_that_do_not_shrink_are_not_taken_apart() -> None:
    noise = np.random.default_rng(0).integers(0, 1 << 16, 3000, dtype=np.uint16)
    (part,) = compress_values(noise)
    assert bytes(part) == noise.tobytes()


def frame(raw: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(raw)[4:]


@pytest.mark.parametrize(
    ("stored", "length", "reason"),
    [
        (b"\1\2\3", 2, "a part of 3 bytes where 2 are needed"),
        (compress_part(SKEWED)[:-3], len(SKEWED), "no zstd frame of 20000 bytes|expands to"),
        (b"not a frame at all", 5000, "no zstd frame of 5000 bytes"),
        (b"", 10, "a part of 0 bytes, which cannot hold the 10"),
        (frame(bytes(5000), write_content_size=False), 4999, "no zstd frame of 4999 bytes|expands to"),
        (frame(bytes(5000), write_content_size=False), 5001, "expands to 5000 bytes where 5001"),
        (frame(bytes(5000), write_content_size=True), 5001, "declares 5000 bytes where 5001"),
        (frame(bytes(5000)) + b"more", 5000, "no zstd frame of 5000 bytes"),
        (frame(bytes(1 << 24), write_content_size=False), 40_000, "a part of|no zstd frame of 40000 bytes|expands to"),
    ],
    ids=["too long", "truncated", "noise", "nothing", "too much", "too little", "declared", "trailing", "bomb"],
)
def test_a_part_that_is_not_what_it_should_be_is_refused(stored: bytes, length: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        expand_part(stored, length)


def test_a_size_that_no_frame_of_these_bytes_can_have_is_refused_before_memory_is_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(zstandard, "ZstdDecompressor", pytest.fail)
    with pytest.raises(ValueError, match="which cannot hold the 1099511627776 it needs"):
        expand_part(frame(bytes(5000)), 1 << 40)
