from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcc.layers.encoding import Encoded, decode, encode, encoded_bytes

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BITS = {2: (torch.int16, np.int16), 4: (torch.int32, np.int32), 8: (torch.int64, np.int64)}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(BITS[tensor.element_size()][0])


@st.composite
def float_tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bit patterns at all: negative zeros, subnormals, infinities and NaNs with payloads included."""
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    integer = BITS[dtype.itemsize][1]
    sparse = st.one_of(st.just(0), st.integers(np.iinfo(integer).min, np.iinfo(integer).max))
    array = draw(hnp.arrays(integer, shape, elements=sparse))
    return torch.from_numpy(array).reshape(-1).view(dtype).reshape(shape)


@given(float_tensors())
def test_every_bit_pattern_comes_back(tensor: torch.Tensor) -> None:
    back = decode(encode(tensor))
    assert back.shape == tensor.shape
    assert back.dtype == tensor.dtype
    assert torch.equal(bits(back), bits(tensor))


@given(float_tensors())
def test_bytes_are_those_predicted_and_never_more_than_dense(tensor: torch.Tensor) -> None:
    encoded = encode(tensor)
    present = int(torch.count_nonzero(bits(tensor)))
    assert encoded.nbytes == encoded_bytes(tensor.numel(), present, tensor.element_size())
    assert encoded.nbytes <= tensor.numel() * tensor.element_size()


def test_the_packed_bits_are_big_endian_and_row_major() -> None:
    tensor = torch.zeros(4, 4)
    tensor[0, 1], tensor[0, 2], tensor[3, 3] = 5.0, -6.0, 7.0
    encoded = encode(tensor)
    assert encoded.encoding == "bitmask"
    assert encoded.parts[".mask"].tolist() == [0b0110_0000, 0b0000_0001]
    assert encoded.parts[".values"].tolist() == [5.0, -6.0, 7.0]


def test_a_tie_in_bytes_stays_dense() -> None:
    tensor = torch.zeros(32)
    tensor[:31] = 1.0  # 4 bytes of mask and 31 values: the 128 bytes that dense takes
    assert encode(tensor).encoding == "dense"
    tensor[30] = 0.0
    encoded = encode(tensor)
    assert (encoded.encoding, encoded.nbytes) == ("bitmask", 4 + 30 * 4)


def test_dense_shares_memory_and_decodes_into_its_own() -> None:
    tensor = torch.randn(5, 3)
    encoded = encode(tensor)
    assert encoded.parts[""].data_ptr() == tensor.data_ptr()
    back = decode(encoded)
    back.zero_()
    assert bool(tensor.any())


@pytest.mark.parametrize("tensor", [torch.zeros(4, 4, dtype=torch.int64), torch.zeros(9, dtype=torch.bool)])
def test_integers_are_stored_as_they_are(tensor: torch.Tensor) -> None:
    encoded = encode(tensor)
    assert encoded.encoding == "dense"
    assert torch.equal(decode(encoded), tensor)


def test_a_strided_view_is_stored_in_row_major_order() -> None:
    tensor = torch.randn(6, 4).t()
    assert torch.equal(decode(encode(tensor)), tensor)


@pytest.mark.parametrize(
    ("encoding", "shape", "dtype", "parts", "reason"),
    [
        ("dense", (3,), torch.float32, {"": torch.ones(4)}, "4 values"),
        ("dense", (4,), torch.float16, {"": torch.ones(4)}, "float16 is declared"),
        ("bitmask", (9,), torch.float32, {".mask": "11111111", ".values": 8}, "mask of 1 bytes"),
        ("bitmask", (8,), torch.float32, {".mask": "11100000", ".values": 2}, "marks 3 values and 2"),
        ("bitmask", (8,), torch.bfloat16, {".mask": "11000000", ".values": 2}, "bfloat16 is declared"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    encoding: str, shape: tuple[int, ...], dtype: torch.dtype, parts: dict, reason: str
) -> None:
    if ".mask" in parts:
        parts = {
            ".mask": torch.tensor([int(parts[".mask"], 2)], dtype=torch.uint8),
            ".values": torch.ones(parts[".values"]),
        }
    with pytest.raises(ValueError, match=reason):
        decode(Encoded(encoding, shape, dtype, parts))
