"""Counting values other than zero: against numpy, in every dtype, order and shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.ops import scores
from rcc.ops.nonzeros import count_nonzeros


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_zeros_of_both_signs_are_none_and_everything_else_counts(dtype: torch.dtype) -> None:
    least = torch.finfo(dtype).smallest_normal / 2
    tensor = torch.tensor([0.0, -0.0, least, -least, 1.0, -2.0, torch.inf, torch.nan], dtype=dtype)
    assert count_nonzeros(tensor) == 6


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_integers_and_booleans_are_counted_too(dtype: torch.dtype) -> None:
    assert count_nonzeros(torch.tensor([[0, 1], [3, 0]]).to(dtype)) == 2


@given(st.lists(st.sampled_from([0.0, -0.0, 1.5, -1e-40]), max_size=50), st.integers(1, 7))
def test_any_length_and_any_chunk_give_what_numpy_counts(values: list[float], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "CHUNK", chunk)
        assert count_nonzeros(torch.tensor(values)) == np.count_nonzero(np.array(values, np.float32))


def test_matrices_in_another_order_and_parameters_are_counted() -> None:
    matrix = torch.eye(5, 3)
    assert count_nonzeros(matrix.T) == count_nonzeros(matrix[:, ::2]) + 1 == 3
    assert count_nonzeros(torch.nn.Parameter(matrix)) == 3
