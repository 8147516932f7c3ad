"""The SVD against numpy in float64, ranks by hand, Eckart–Young, signs and zeros."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.ops.factorise import (
    SMALL,
    Svd,
    factor_pair,
    kept_energy,
    rank_by_energy,
    rank_by_share,
    select_rank,
    svd_of_product,
    thin_svd,
)


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def product(svd: Svd) -> torch.Tensor:
    return (svd.left * svd.values) @ svd.right


LARGE = SMALL + 20
SHAPES = [(7, 7), (5, 12), (12, 5), (1, 6), (6, 1), (LARGE, LARGE + 40), (LARGE + 40, LARGE)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", ["auto", "float64"])
def test_thin_svd_gives_numpys_singular_values_and_the_matrix_back(shape, precision):
    weight = matrix(*shape)
    svd = thin_svd(weight, precision)
    expected = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    assert svd.values.dtype == torch.float64
    np.testing.assert_allclose(svd.values.numpy(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(product(svd), weight.double(), rtol=0, atol=1e-10)
    identity = torch.eye(min(shape), dtype=torch.float64)
    torch.testing.assert_close(svd.right @ svd.right.T, identity, rtol=0, atol=1e-8)
    torch.testing.assert_close(svd.left.T @ svd.left, identity, rtol=0, atol=1e-8)


def test_the_gram_route_gives_the_same_vectors_as_lapack():
    # Distinct singular values: with the signs settled, the vectors are unique.
    q_left, _ = torch.linalg.qr(matrix(LARGE, LARGE, 1).double())
    q_right, _ = torch.linalg.qr(matrix(LARGE + 9, LARGE, 2).double())
    weight = (q_left * torch.linspace(5, 0.5, LARGE, dtype=torch.float64)) @ q_right.T
    gram, lapack = thin_svd(weight, "auto"), thin_svd(weight, "float64")
    torch.testing.assert_close(gram.left, lapack.left, rtol=0, atol=1e-9)
    torch.testing.assert_close(gram.right, lapack.right, rtol=0, atol=1e-9)


def test_an_ill_conditioned_weight_keeps_orthonormal_vectors():
    weight = matrix(LARGE, LARGE) * torch.logspace(0, -9, LARGE)
    svd = thin_svd(weight)
    identity = torch.eye(LARGE, dtype=torch.float64)
    torch.testing.assert_close(svd.right @ svd.right.T, identity, rtol=0, atol=1e-10)
    torch.testing.assert_close(svd.left.T @ svd.left, identity, rtol=0, atol=1e-10)


def test_float32_precision_stays_in_float32():
    assert thin_svd(matrix(4, 6).double(), "float32").values.dtype == torch.float32


def test_a_half_precision_weight_is_decomposed_in_float64():
    weight = matrix(6, 4).to(torch.bfloat16)
    torch.testing.assert_close(product(thin_svd(weight)), weight.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 9), (LARGE, LARGE + 3)])
def test_the_largest_entry_of_every_right_vector_is_positive(shape):
    right = thin_svd(matrix(*shape)).right
    peak = right.gather(1, right.abs().argmax(1, keepdim=True))
    assert bool((peak > 0).all())


def test_the_decomposition_of_the_negated_weight_has_the_same_right_vectors():
    weight = matrix(6, 9)
    torch.testing.assert_close(thin_svd(-weight).right, thin_svd(weight).right, rtol=0, atol=1e-12)


def test_zero_rows_and_columns_stay_exactly_positive_zero():
    weight = matrix(8, 10)
    weight[3], weight[:, 6] = 0, 0
    svd = thin_svd(weight)
    left, right = factor_pair(svd, 5)
    for zeros in (left[3], right[:, 6]):
        assert bool((zeros == 0).all())
        assert not bool(torch.signbit(zeros).any())


def test_the_svd_of_a_product_is_that_of_the_matrix():
    left, right = matrix(20, 4, 1), matrix(4, 30, 2)
    svd = svd_of_product(left, right)
    expected = np.linalg.svd((left.double() @ right.double()).numpy(), compute_uv=False)[:4]
    np.testing.assert_allclose(svd.values.numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(product(svd), left.double() @ right.double(), rtol=0, atol=1e-12)
    assert (svd.left.shape, svd.right.shape) == ((20, 4), (4, 30))


def test_the_svd_of_a_product_wider_than_the_matrix_has_no_more_values_than_the_matrix():
    left, right = matrix(3, 8, 1), matrix(8, 5, 2)
    svd = svd_of_product(left, right)
    assert svd.values.numel() == 3
    torch.testing.assert_close(product(svd), left.double() @ right.double(), rtol=0, atol=1e-12)


@given(
    m=st.integers(1, 12), n=st.integers(1, 12), seed=st.integers(0, 10**6), data=st.data(),
    factors=st.sampled_from(["orthonormal", "balanced"]),
)  # fmt: skip
def test_the_squared_error_of_a_truncation_is_the_sum_of_the_dropped_squares(m, n, seed, data, factors):
    weight = matrix(m, n, seed).double()
    rank = data.draw(st.integers(1, min(m, n)))
    svd = thin_svd(weight)
    left, right = factor_pair(svd, rank, factors)
    error = float((weight - left @ right).square().sum())
    assert error == pytest.approx(float(svd.values[rank:].square().sum()), abs=1e-10)
    assert error / float(weight.square().sum()) == pytest.approx(1 - kept_energy(svd.values, rank), abs=1e-10)


def test_orthonormal_factors_keep_the_rows_of_v_orthonormal_and_balanced_ones_share_the_values():
    svd = thin_svd(matrix(6, 9))
    left, right = factor_pair(svd, 3)
    torch.testing.assert_close(right @ right.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(left.norm(dim=0), svd.values[:3])
    left, right = factor_pair(svd, 3, "balanced")
    torch.testing.assert_close(left.norm(dim=0), svd.values[:3].sqrt())
    torch.testing.assert_close(right.norm(dim=1), svd.values[:3].sqrt())


def test_factors_are_contiguous():
    assert all(factor.is_contiguous() for factor in factor_pair(thin_svd(matrix(9, 6)), 3))


@pytest.mark.parametrize(("threshold", "rank"), [(0.5, 1), (0.9, 1), (0.900001, 2), (0.99, 2), (0.995, 3), (1.0, 3)])
def test_the_rank_by_energy_counts_values_from_one(threshold, rank):
    # Energies 90, 9, 1 of 100: reached exactly at 0.9 and 0.99.
    values = torch.tensor([90.0, 9.0, 1.0], dtype=torch.float64).sqrt()
    assert rank_by_energy(values, threshold) == rank


def test_trailing_zero_values_are_never_needed_for_all_of_the_energy():
    assert rank_by_energy(torch.tensor([2.0, 1.0, 0.0, 0.0]), 1.0) == 2


def test_a_matrix_of_zeros_has_rank_one_and_all_of_its_energy():
    assert rank_by_energy(torch.zeros(4), 0.95) == 1
    assert kept_energy(torch.zeros(4), 1) == 1.0


@pytest.mark.parametrize(
    ("shape", "share", "rank"),
    [((768, 768), 0.5, 192), ((3072, 768), 0.5, 307), ((100, 100), 1 - 0.9, 5), ((4, 4), 0.25, 0), ((3, 5), 1.0, 1)],
)
def test_the_rank_by_share_is_the_floor_of_the_parameters_over_the_cost_of_a_rank(shape, share, rank):
    assert rank_by_share(shape, share) == rank


@given(m=st.integers(1, 400), n=st.integers(1, 400), percent=st.integers(1, 100))
def test_the_rank_by_share_is_the_largest_that_fits_in_exact_arithmetic(m, n, percent):
    rank = rank_by_share((m, n), percent / 100)
    assert rank * (m + n) * 100 <= percent * m * n < (rank + 1) * (m + n) * 100


def test_the_smaller_rank_binds_and_says_so():
    values = torch.tensor([10.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    by_energy = select_rank(values, (8, 8), 0.9, 1.0)
    assert (by_energy.rank, by_energy.bound) == (1, "energy")
    assert by_energy.energy == pytest.approx(100 / 107)
    by_share = select_rank(values, (8, 8), 1.0, 0.5)
    assert (by_share.rank, by_share.bound) == (2, "share")
    assert by_share.energy == pytest.approx(101 / 107)


def test_a_rule_that_is_off_does_not_bind():
    values = torch.ones(8)
    assert select_rank(values, (8, 8), None, 0.5).bound == "share"
    assert (select_rank(values, (8, 8), 0.5, None).rank, select_rank(values, (8, 8), 0.5, None).bound) == (4, "energy")
    with pytest.raises(ValueError, match="no rule"):
        select_rank(values, (8, 8), None, None)


def test_a_share_too_small_for_one_rank_still_gives_one():
    assert select_rank(torch.ones(4), (4, 4), None, 0.01).rank == 1


@pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(0, 3), torch.tensor([[float("nan")]])])
def test_what_is_no_finite_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="matrix"):
        thin_svd(bad)


def test_an_unknown_precision_and_factors_that_do_not_multiply_are_refused():
    with pytest.raises(ValueError, match="float16"):
        thin_svd(torch.ones(2, 2), "float16")
    with pytest.raises(ValueError, match="do not multiply"):
        svd_of_product(torch.ones(2, 3), torch.ones(2, 3))
