"""Scores and truncation in the metric of the inputs, against numpy, a direct SVD of W H^½, and plain truncation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops.activation import activation_score, metric_svd, metric_svd_of_product
from rcc.ops.factorise import factor_pair, thin_svd

SHAPES = [(5, 12), (12, 5), (8, 8), (1, 6), (6, 1), (280, 300), (300, 280)]


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed)).double()


def moment(n: int, seed: int = 1) -> torch.Tensor:
    """A definite second moment with a spread of a thousand."""
    basis, _ = torch.linalg.qr(matrix(n, n, seed))
    return (basis * torch.logspace(0, -3, n, dtype=torch.float64)) @ basis.T


def root_of(h: torch.Tensor) -> np.ndarray:
    squares, vectors = np.linalg.eigh(h.numpy())
    return (vectors * np.sqrt(squares)) @ vectors.T


def product(svd, rank: int) -> torch.Tensor:
    left, right = factor_pair(svd, rank, "balanced")
    return left @ right


@pytest.mark.parametrize("shape", SHAPES)
def test_truncation_is_that_of_a_direct_svd_of_the_weighted_matrix(shape):
    weight, h = matrix(*shape), moment(shape[1])
    root = root_of(h)
    u, s, v = np.linalg.svd(weight.numpy() @ root, full_matrices=False)
    svd = metric_svd(weight, h)
    rank = max(1, min(shape) // 2)
    expected = (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.inv(root)
    np.testing.assert_allclose(svd.values.numpy(), s, rtol=1e-6, atol=1e-6 * s[0])
    np.testing.assert_allclose(product(svd, rank).numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    # And its error is the sum of the squares dropped.
    error = np.linalg.norm((weight - product(svd, rank)).numpy() @ root) ** 2
    assert error == pytest.approx((s[rank:] ** 2).sum(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_factor_is_orthonormal_in_the_metric_and_the_whole_is_the_weight(shape):
    weight, h = matrix(*shape), moment(shape[1])
    svd = metric_svd(weight, h)
    identity = torch.eye(min(shape), dtype=torch.float64)
    torch.testing.assert_close(svd.right @ h @ svd.right.T, identity, rtol=0, atol=1e-6)
    torch.testing.assert_close(product(svd, min(shape)), weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_identity_moments_it_is_plain_truncation(shape):
    weight, rank = matrix(*shape), max(1, min(shape) // 3)
    plain = product(thin_svd(weight), rank)
    torch.testing.assert_close(product(metric_svd(weight, torch.eye(shape[1]) * 1.7), rank), plain, rtol=0, atol=1e-7)


@given(
    m=st.integers(1, 9),
    n=st.integers(1, 9),
    samples=st.integers(1, 30),
    rank=st.integers(1, 9),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=120)
def test_its_outputs_are_never_worse_than_those_of_plain_truncation_even_where_damped(m, n, samples, rank, seed):
    weight, inputs = matrix(m, n, seed), matrix(samples, n, seed + 1)
    rank = min(rank, m, n)
    h = inputs.T @ inputs / samples
    h.diagonal().add_(0.01 * h.diagonal().mean())
    errors = [
        float(torch.linalg.norm((weight - product(svd, rank)) @ inputs.T))
        for svd in (metric_svd(weight, h), thin_svd(weight))
    ]
    assert errors[0] <= errors[1] * (1 + 1e-7) + 1e-9


@pytest.mark.parametrize("shape", [(9, 14), (14, 9)])
def test_a_pair_is_truncated_as_its_product_is(shape):
    left, right = matrix(shape[0], 4, 2), matrix(4, shape[1], 3)
    h = moment(shape[1])
    of_pair, of_product = metric_svd_of_product(left, right, h), metric_svd(left @ right, h)
    torch.testing.assert_close(of_pair.values, of_product.values[:4], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(product(of_pair, 2), product(of_product, 2), rtol=0, atol=1e-8)
    assert of_product.values[4:].max() < 1e-6 * of_product.values[0]


@pytest.mark.parametrize("shape", [(9, 14), (14, 9)])
def test_rows_and_columns_of_zeros_stay_exactly_zero(shape):
    weight = matrix(*shape)
    weight[3], weight[:, 5] = 0.0, 0.0
    left, right = factor_pair(metric_svd(weight, moment(shape[1])), 4)
    assert not bool(left[3].any())
    assert not bool(right[:, 5].any())


def test_what_does_not_fit_or_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        metric_svd(torch.ones(3, 4), torch.eye(3))
    with pytest.raises(ValueError, match="NaN"):
        metric_svd(torch.ones(3, 2), torch.eye(2) * float("nan"))


def test_the_score_is_the_published_product_of_magnitude_and_input_norm():
    weight, inputs = matrix(6, 5).float(), matrix(40, 5, 1)
    expected = np.abs(weight.numpy()) * np.linalg.norm(inputs.numpy(), axis=0) / np.sqrt(40)
    score = activation_score(weight, inputs.square().mean(0))
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_score_is_zero_only_where_the_weight_is(dtype):
    weight = torch.tensor([[0.0, 1.0, 1e-7], [2.0, -0.0, -3.0]]).to(dtype)
    score = activation_score(weight, torch.tensor([0.0, 0.0, 4.0]), torch.tensor([1e-44, 0.0]))
    assert torch.equal(score == 0, weight == 0)
    assert score.dtype == torch.float32


def test_among_inputs_that_never_fired_magnitude_decides():
    score = activation_score(torch.tensor([[3.0, 1.0, 2.0, 1e-3]]), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert score[0].argsort().tolist() == [1, 2, 0, 3]
    silent = activation_score(torch.tensor([[3.0, 1.0]]), torch.zeros(2))
    assert silent.tolist() == [[3.0, 1.0]]
