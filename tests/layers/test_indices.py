"""The indices of sparse matrices against bytes written by hand, a plain loop, and SciPy's CSR."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from rcc.layers.indices import INDICES, count_escapes, index_lengths, matrix_shape, pack_index, unpack_index


def present(numel: int, *positions: int) -> np.ndarray:
    marks = np.zeros(numel, np.bool_)
    marks[list(positions)] = True
    return marks


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    rows, columns = draw(st.integers(0, 5)), draw(st.sampled_from([0, 1, 7, 255, 256, 257, 700]))
    seed, share = draw(st.integers(0, 999)), draw(st.sampled_from([0.0, 0.002, 0.1, 0.9, 1.0]))
    return np.random.default_rng(seed).random((rows, columns)) < share


@given(matrices(), st.sampled_from(INDICES))
def test_every_index_comes_back_in_the_bytes_that_were_said(matrix: np.ndarray, index: str) -> None:
    rows, columns = matrix.shape
    flat, nonzeros = matrix.reshape(-1), int(matrix.sum())
    parts = pack_index(index, flat, rows, columns)
    assert tuple(map(len, parts)) == index_lengths(index, rows, columns, nonzeros, count_escapes(flat))
    found = np.zeros(rows * columns, np.bool_)
    found[unpack_index(index, [part.tobytes() for part in parts], rows, columns, nonzeros)] = True
    np.testing.assert_array_equal(found, flat)


def test_mask_bits_are_big_endian_and_run_through_the_rows() -> None:
    (mask,) = pack_index("bitmask", present(18, 1, 2, 15, 17), 3, 6)
    assert mask.tolist() == [0b0110_0000, 0b0000_0001, 0b0100_0000]


def test_gaps_count_the_zeros_before_each_value_across_rows() -> None:
    (gaps,) = pack_index("gaps", present(18, 0, 4, 5, 17), 3, 6)
    assert gaps.tolist() == [0, 3, 0, 11]


@pytest.mark.parametrize(
    ("gap", "packed"),
    [(254, [254]), (255, [255, 0]), (256, [255, 1]), (509, [255, 254]), (510, [255, 255, 0]), (600, [255, 255, 90])],
)
def test_a_byte_of_255_stands_for_255_zeros_and_no_value(gap: int, packed: list[int]) -> None:
    (gaps,) = pack_index("gaps", present(700, gap), 1, 700)
    assert gaps.tolist() == packed
    assert count_escapes(present(700, gap)) == len(packed) - 1


@given(matrices())
def test_gaps_are_those_of_a_plain_loop(matrix: np.ndarray) -> None:
    expected, run = [], 0
    for mark in matrix.reshape(-1):
        if mark:
            expected.append(run)
            run = 0
        elif run == 254:
            expected.append(255)
            run = 0
        else:
            run += 1
    # The loop writes its escape as soon as 255 zeros are seen, at the end too, where nothing needs it.
    while expected and expected[-1] == 255:
        expected.pop()
    (gaps,) = pack_index("gaps", matrix.reshape(-1), *matrix.shape)
    assert gaps.tolist() == expected


@given(matrices())
def test_compressed_rows_are_those_of_scipy(matrix: np.ndarray) -> None:
    counts, columns = pack_index("csr", matrix.reshape(-1), *matrix.shape)
    width = matrix.shape[1]
    theirs = sparse.csr_array(matrix)
    count_type, column_type = (np.uint8 if width <= 255 else np.uint16), (np.uint8 if width <= 256 else np.uint16)
    np.testing.assert_array_equal(counts.view(count_type), np.diff(theirs.indptr))
    np.testing.assert_array_equal(columns.view(column_type), theirs.indices)


def test_the_widest_rows_that_csr_takes_count_in_four_bytes() -> None:
    counts, columns = pack_index("csr", np.ones(1 << 16, np.bool_), 1, 1 << 16)
    assert counts.view(np.uint32).tolist() == [1 << 16]
    assert columns.view(np.uint16).tolist() == list(range(1 << 16))


def test_tensors_are_indexed_as_matrices_of_their_first_dimension() -> None:
    assert [matrix_shape(shape) for shape in ((), (5,), (4, 3), (6, 3, 2, 2), (0, 3))] == [
        (1, 1), (1, 5), (4, 3), (6, 12), (0, 3),
    ]  # fmt: skip
