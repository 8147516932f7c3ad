"""Matrices on a grid: whole numbers and steps describe them exactly, and nothing off the grid is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.layers.grid import from_grid, to_grid


@given(
    st.integers(1, 5),
    st.integers(0, 7),
    st.integers(0, 99),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_whole_numbers_come_back_from_the_products(rows: int, columns: int, seed: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(seed)
    whole = torch.randint(-127, 128, (rows, columns), generator=draw, dtype=torch.int8)
    step = (torch.rand(rows, generator=draw) + 0.01).to(dtype)
    matrix = from_grid(whole, step)
    assert matrix.dtype == dtype
    assert torch.equal(to_grid(matrix, step), whole)
    assert torch.equal(from_grid(to_grid(matrix, step), step), matrix)


def test_the_product_is_that_of_float32() -> None:
    whole = torch.tensor([[127, -3, 0]], dtype=torch.int8)
    step = torch.tensor([0.1])
    expected = np.array([[127, -3, 0]], np.float32) * np.float32(0.1)
    assert from_grid(whole, step).numpy().tobytes() == expected.tobytes()
    assert not bool(torch.signbit(from_grid(whole, step)[0, 2]))


@pytest.mark.parametrize(
    ("matrix", "step", "reason"),
    [
        ([[0.5, 0.26]], [0.25], "1 of 2 values are not whole multiples"),
        ([[32.0, 31.75]], [0.25], "1 of 2 values are not whole multiples, up to 127"),
        ([[1.0]], [0.0], "not a positive finite number"),
        ([[1.0]], [-1.0], "not a positive finite number"),
        ([[1.0]], [float("nan")], "not a positive finite number"),
        ([[float("nan")]], [1.0], "1 of 1 values"),
    ],
)
def test_what_is_not_on_the_grid_is_refused(matrix: list, step: list, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_grid(torch.tensor(matrix), torch.tensor(step))


def test_a_row_of_zeros_may_have_any_step() -> None:
    assert to_grid(torch.zeros(1, 3), torch.tensor([7.0])).tolist() == [[0, 0, 0]]
