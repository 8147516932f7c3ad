from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcc.layers.encoding import (
    ENCODINGS,
    Encoded,
    Outliers,
    check,
    decode,
    encode,
    encode_dense,
    encoded_bytes,
)
from rcc.layers.entropy import ENTROPIES, compress_values
from rcc.layers.estimate import coded_bytes

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8)
BITS = {1: (torch.int8, np.int8), 2: (torch.int16, np.int16), 4: (torch.int32, np.int32), 8: (torch.int64, np.int64)}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(BITS[tensor.element_size()][0])


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bit patterns at all: negative zeros, subnormals, infinities and NaNs with payloads included."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    integer = BITS[dtype.itemsize][1]
    sparse = st.one_of(st.just(0), st.integers(np.iinfo(integer).min, np.iinfo(integer).max))
    array = draw(hnp.arrays(integer, shape, elements=sparse))
    return torch.from_numpy(array).reshape(-1).view(dtype).reshape(shape)


def scattered(rows: int, columns: int, nonzeros: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """A matrix with `nonzeros` values at random places."""
    draw = torch.Generator().manual_seed(seed)
    flat = torch.zeros(rows * columns)
    places = torch.randperm(rows * columns, generator=draw)[:nonzeros]
    flat[places] = torch.randint(1, 100, (nonzeros,), generator=draw).float() * 0.5
    return (flat * 2 if dtype == torch.int8 else flat).to(dtype).reshape(rows, columns)


@given(tensors(), st.sampled_from(ENTROPIES))
def test_every_bit_pattern_comes_back(tensor: torch.Tensor, entropy: str) -> None:
    for encoded in (encode(tensor, entropy), encode_dense(tensor, entropy)):
        check(encoded)
        back = decode(encoded)
        assert back.shape == tensor.shape
        assert back.dtype == tensor.dtype
        assert torch.equal(bits(back), bits(tensor))


@given(tensors(), st.sampled_from(ENTROPIES))
def test_bytes_are_never_more_than_predicted_or_than_dense(tensor: torch.Tensor, entropy: str) -> None:
    encoded = encode(tensor, entropy)
    present = int(torch.count_nonzero(bits(tensor)))
    assert encoded.nbytes <= encoded_bytes(tensor.numel(), present, tensor.element_size())
    assert encoded_bytes(tensor.numel(), present, tensor.element_size()) <= tensor.numel() * tensor.element_size()
    assert encoded.nbytes == sum(len(bytes(part)) for part in encoded.parts)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.7, 0.9, 0.99, 0.9995, 1.0])
def test_large_matrices_come_back_at_every_sparsity(dtype: torch.dtype, entropy: str, zeros: float) -> None:
    tensor = scattered(120, 300, round(36_000 * (1 - zeros)), dtype)
    encoded = encode(tensor, entropy)
    assert torch.equal(decode(encoded), tensor)
    assert encoded.nbytes <= encode(tensor, "none").nbytes


@pytest.mark.parametrize(
    ("nonzeros", "encoding", "nbytes"),
    [
        (4096, "dense", 4096 * 2),
        (3900, "dense", 4096 * 2),  # a bitmask would take 512 + 2 · 3900 = 8312
        (2000, "bitmask", 512 + 2 * 2000),
        (513, "bitmask", 512 + 2 * 513),
        (400, "gaps", 400 + 2 * 400),
    ],
)
def test_the_smallest_encoding_is_taken_and_its_bytes_are_exact(nonzeros: int, encoding: str, nbytes: int) -> None:
    flat = torch.zeros(4096, dtype=torch.float16)
    flat[torch.arange(nonzeros) * 4096 // nonzeros] = 1.0  # evenly, so that no gap needs an escape
    encoded = encode(flat.reshape(64, 64))
    assert (encoded.encoding, encoded.nbytes) == (encoding, nbytes)
    assert encoded.nonzeros == (4096 if encoding == "dense" else nonzeros)
    assert encoded_bytes(4096, nonzeros, 2) - nbytes in range(0, (4096 - nonzeros) // 255 + 1)


def test_rows_stored_alone_are_smallest_where_gaps_are_long() -> None:
    matrix = torch.zeros(4, 60_000, dtype=torch.float16)
    matrix[:, 50_000] = 1.0  # a gap of 59,999 takes 236 bytes, a row's count and column 4
    encoded = encode(matrix)
    assert (encoded.encoding, encoded.lengths) == ("csr", (4 * 2, 4 * 2, 4 * 2))
    assert torch.equal(decode(encoded), matrix)


def test_a_tie_in_bytes_stays_dense() -> None:
    tensor = torch.zeros(32)
    tensor[:31] = 1.0  # 4 bytes of mask and 31 values: the 128 bytes that dense takes
    assert encode(tensor).encoding == "dense"
    tensor[30] = 0.0
    encoded = encode(tensor)
    assert (encoded.encoding, encoded.nbytes) == ("bitmask", 4 + 30 * 4)


def test_entropy_coding_comes_close_to_the_entropy_of_zeros_and_levels() -> None:
    draw = np.random.default_rng(0)
    count, zeros, levels = 200_000, 0.9, 31
    whole = draw.integers(-(levels // 2), levels // 2 + 1, count)
    whole[whole == 0] = 16
    matrix = torch.from_numpy(np.where(draw.random(count) < zeros, 0, whole).astype(np.int8)).reshape(400, 500)
    entropy = -(zeros * math.log2(zeros) + (1 - zeros) * math.log2(1 - zeros)) + (1 - zeros) * math.log2(levels)
    encoded = encode(matrix, "zstd")
    assert encoded.encoding == "gaps"
    assert entropy * 0.99 < encoded.nbytes * 8 / count < entropy * 1.025
    assert torch.equal(decode(encoded), matrix)


def entropy_bytes(whole: torch.Tensor) -> float:
    """The empirical entropy of order 0, in bytes."""
    _, counts = np.unique(whole.numpy(), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


def gaussian(levels: int, zeros: float, size: int = 512) -> torch.Tensor:
    """Gaussian values (size, size) rounded to -levels … levels times a step a row, some of them set to zero."""
    draw = torch.Generator().manual_seed(levels)
    values = torch.randn(size, size, generator=draw)
    whole = (values / values.abs().amax(1, keepdim=True) * levels).round().to(torch.int8)
    return whole.masked_fill(torch.rand(size, size, generator=draw) < zeros, 0)


@pytest.mark.parametrize(
    ("levels", "zeros"), [(1, 0.0), (1, 0.5), (3, 0.0), (3, 0.6), (3, 0.9), (7, 0.0), (7, 0.8), (15, 0.0), (31, 0.7),
                          (127, 0.0), (127, 0.9)],
)  # fmt: skip
def test_whole_numbers_are_coded_within_two_percent_of_their_entropy_and_foretold(levels: int, zeros: float) -> None:
    whole = gaussian(levels, zeros)
    encoded = encode(whole, "zstd")
    assert torch.equal(decode(encoded), whole)
    assert entropy_bytes(whole) * 0.999 < encoded.nbytes < entropy_bytes(whole) * 1.02
    assert coded_bytes(whole) == pytest.approx(encoded.nbytes, rel=0.02)
    assert encode(whole).nbytes <= encoded_bytes(whole.numel(), int((whole != 0).sum()), 1)


def with_outliers(share: float, zeros: float = 0.5, size: int = 512) -> torch.Tensor:
    """Numbers of three levels (size, size), a share of them made into ones of 8 to 60."""
    draw = torch.Generator().manual_seed(3)
    whole = torch.randint(0, 2, (size, size), generator=draw).mul_(2).sub_(1)
    whole = whole.masked_fill(torch.rand(size, size, generator=draw) < zeros, 0)
    far = torch.randint(8, 61, (size, size), generator=draw)
    return torch.where(torch.rand(size, size, generator=draw) < share, far, whole).to(torch.int8)


@pytest.mark.parametrize("zeros", [0.2, 0.5, 0.9])
def test_a_few_outliers_do_not_keep_the_others_from_lying_several_in_a_byte(zeros: float) -> None:
    whole = with_outliers(0.01, zeros)
    encoded = encode(whole, "zstd")
    assert encoded.outliers is not None
    assert encoded.outliers.nonzeros == int((whole > 7).sum())
    assert encoded.span == (-1, 1)
    assert torch.equal(decode(encoded), whole)
    check(encoded)
    assert entropy_bytes(whole) * 0.98 < encoded.nbytes < entropy_bytes(whole) * 1.025


def test_numbers_of_many_levels_alike_have_no_outliers() -> None:
    assert encode(gaussian(127, 0.0), "zstd").outliers is None
    assert encode(with_outliers(0.01)).outliers is None  # without entropy coding there is nothing to gain


@given(hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=40),
                  elements=st.one_of(st.just(0), st.integers(-1, 1), st.integers(-128, 127))))  # fmt: skip
def test_numbers_with_outliers_come_back(array: np.ndarray) -> None:
    whole = torch.from_numpy(array)
    encoded = encode(whole, "zstd")
    check(encoded)
    assert torch.equal(decode(encoded), whole)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (Encoded("dense", (2, 4), torch.int8, 8, 0, (b"\xca\x75", b"\x80", b"\x28"), (-1, 1),
                 Outliers("bitmask", 1, 0)), "has an outlier where it has another value"),
        (Encoded("bitmask", (2, 4), torch.int8, 1, 0, (b"\x80", b"\x00", b"\x80", b"\x28"), (-1, 1),
                 Outliers("bitmask", 1, 0)), "has an outlier where it has another value"),
        (Encoded("bitmask", (2, 4), torch.int8, 1, 0, (b"\x80", b"\x00", b"\x40"), (-1, 1),
                 Outliers("bitmask", 1, 0)), "parts, which are not those of bitmask"),
        (Encoded("bitmask", (2, 4), torch.int8, 1, 0, (b"\x80", b"\x00", b"\x60", b"\x28"), (-1, 1),
                 Outliers("bitmask", 1, 0)), "marks 2 values where 1 are declared"),
    ],
)  # fmt: skip
def test_outliers_that_contradict_the_others_are_refused(encoded: Encoded, reason: str) -> None:
    for read in (check, decode):
        with pytest.raises(ValueError, match=reason):
            read(encoded)


def test_digits_are_smaller_than_bytes_at_three_bits() -> None:
    whole = gaussian(3, 0.0)
    encoded = encode(whole, "zstd")
    bytewise = sum(map(len, compress_values(whole.numpy().view(np.uint8).reshape(-1))))
    assert encoded.span == (-3, 3)
    assert encoded.nbytes < 0.92 * bytewise


def test_a_matrix_of_one_number_takes_no_bytes() -> None:
    for number in (0, 5):
        whole = torch.full((40, 30), number, dtype=torch.int8)
        assert encode(whole).nbytes == encode(whole, "zstd").nbytes == coded_bytes(whole) == 0
        assert torch.equal(decode(encode(whole)), whole)


def test_the_choice_is_made_on_coded_bytes() -> None:
    matrix = torch.zeros(512, 512, dtype=torch.int8)
    matrix[:, ::5] = 1  # gaps of 4 and one of 3 a row, all alike
    assert encode(matrix).encoding == "bitmask"
    assert encode(matrix, "zstd").nbytes < 200


def test_dense_shares_memory_and_decodes_into_its_own() -> None:
    tensor = torch.randn(5, 3)
    encoded = encode(tensor)
    (part,) = encoded.parts
    assert np.frombuffer(part, np.float32).ctypes.data == tensor.data_ptr()
    back = decode(encoded)
    back.zero_()
    assert bool(tensor.any())


@pytest.mark.parametrize("tensor", [torch.tensor([[0, 7], [-8, 0]]), torch.tensor([[True], [False]])])
def test_integers_and_booleans_are_encoded_by_their_bits_as_well(tensor: torch.Tensor) -> None:
    back = decode(encode(tensor))
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def test_a_strided_view_is_stored_in_row_major_order() -> None:
    tensor = torch.randn(6, 4).t()
    assert torch.equal(decode(encode(tensor)), tensor)


def test_the_encodings_are_those_of_the_format() -> None:
    assert ENCODINGS == ("dense", "bitmask", "gaps", "csr")


@pytest.mark.parametrize(
    ("encoding", "shape", "nonzeros", "parts", "reason"),
    [
        ("dense", (3,), 3, (b"\1\2\3\4",), "a part of 4 bytes where 3 are needed"),
        ("dense", (3,), 3, (b"\1\2\3", b""), "2 parts, which are not those of dense"),
        ("bitmask", (8,), 3, (b"\xe0\0", b"\1\2\3"), "a part of 2 bytes where 1 are needed"),
        ("bitmask", (8,), 2, (b"\xe0", b"\1\2"), "marks 3 values where 2 are declared"),
        ("bitmask", (7,), 2, (b"\xc1", b"\1\2"), "reaches beyond its 7 positions"),
        ("gaps", (8,), 2, (b"\0\7", b"\1\2"), "reaches beyond its 8 positions"),
        ("gaps", (999,), 2, (b"\0\xff", b"\1\2"), "gaps that end without a value"),
        ("csr", (2, 4), 2, (b"\1\2", b"\0\1", b"\1\2"), "rows of 3 values in all and 2 columns"),
        ("csr", (2, 4), 2, (b"\2\0", b"\3\3", b"\1\2"), "columns that are not in order"),
        ("csr", (2, 4), 2, (b"\2\0", b"\0\4", b"\1\2"), "a column 4 where there are 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    encoding: str, shape: tuple[int, ...], nonzeros: int, parts: tuple[bytes, ...], reason: str
) -> None:
    encoded = Encoded(encoding, shape, torch.int8, nonzeros, 0, parts)
    for read in (check, decode):
        with pytest.raises(ValueError, match=reason):
            read(encoded)


def test_an_escape_that_is_not_declared_is_refused() -> None:
    encoded = Encoded("gaps", (999,), torch.int8, 1, 1, (b"\0\7", b"\1"))
    with pytest.raises(ValueError, match="marks 2 values where 1 are declared"):
        decode(encoded)
