"""Means and covariances summed part by part, against numpy in float64 on all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.calibration.fit_sums import Covariance, Rows


def summed(
    left: list[Tensor], right: list[Tensor] | None, dtype: torch.dtype = torch.float64
) -> tuple[Rows, Rows, Tensor]:
    """Both sides' rows and their covariance; of the left with itself where there is no right."""
    one = Rows(left[0].shape[1], dtype, torch.device("cpu"))
    other = one if right is None else Rows(right[0].shape[1], dtype, torch.device("cpu"))
    covariance = Covariance(one, other)
    for index, part in enumerate(left):
        one.take(part)
        if right is not None:
            other.take(right[index])
        covariance.add()
    return one, other, covariance.done()


def drawn(rows: int, size: int, seed: int) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 7), st.integers(1, 7))
def test_any_parting_gives_the_mean_and_the_covariance_of_all_rows(lengths: list[int], wide: int, narrow: int) -> None:
    total = sum(lengths)
    left, right = 3 + drawn(total, wide, 1), 2 * drawn(total, narrow, 2) - 5
    one, other, covariance = summed(list(left.split(lengths)), list(right.split(lengths)))
    assert (one.count, other.count) == (total, total)
    if total:
        np.testing.assert_allclose(one.mean, left.numpy().mean(0), atol=1e-12)
        wanted = np.cov(left.T.numpy(), right.T.numpy(), bias=True)[:wide, wide:] if total > 1 else 0 * covariance
        np.testing.assert_allclose(covariance, wanted, atol=1e-11)
    else:
        assert not one.mean.any()
        assert not covariance.any()


def test_a_covariance_with_itself_is_symmetric_and_that_of_numpy() -> None:
    rows = drawn(40, 13, 3)
    _, _, covariance = summed(list(rows.split(9)), None)
    torch.testing.assert_close(covariance, covariance.T, rtol=0, atol=1e-15)
    np.testing.assert_allclose(covariance, np.cov(rows.T.numpy(), bias=True), atol=1e-12)


def test_little_variance_about_a_large_mean_is_kept_in_single_precision() -> None:
    rows = 1000 + 0.01 * drawn(600, 4, 4)
    single = rows.float()
    wanted = np.cov(single.double().T.numpy(), bias=True)
    _, _, covariance = summed(list(single.split(100)), None, torch.float32)
    np.testing.assert_allclose(covariance, wanted, atol=1e-3 * wanted.max())
    products = single.T @ single / len(single) - torch.outer(single.mean(0), single.mean(0))
    assert float((products - torch.from_numpy(wanted).float()).abs().max()) > 10 * wanted.max()


def test_parts_whose_means_are_far_apart_lose_nothing() -> None:
    parts = [drawn(50, 3, seed) + shift for seed, shift in enumerate((0.0, 100.0, -300.0))]
    _, _, covariance = summed(parts, None)
    np.testing.assert_allclose(covariance, np.cov(torch.cat(parts).T.numpy(), bias=True), rtol=1e-12)


def test_a_constant_input_has_no_variance_and_never_less() -> None:
    rows = torch.full((30, 5), 0.1)
    _, _, covariance = summed(list(rows.split(7)), None, torch.float32)
    assert float(covariance.diagonal().min()) >= 0
    assert float(covariance.abs().max()) == pytest.approx(0, abs=1e-12)
