"""Whitened low rank against the published Cholesky way in numpy and its stated error."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops.factorise import factor_pair, thin_svd
from rcc.ops.quadratic import Quadratic
from rcc.ops.whitened import Whitened, whitened

SHAPES = [(5, 12), (12, 5), (8, 8), (1, 6), (6, 1), (30, 70), (70, 30)]


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(out: int, inputs: int, seed: int = 0) -> Quadratic:
    """Targets that no weight reaches exactly, on inputs whose second moment has a spread of a thousand."""
    x = matrix(4 * inputs, inputs, seed) @ (
        torch.logspace(0, -1.5, inputs).double()[:, None] * matrix(inputs, inputs, 7)
    )
    y = x @ matrix(inputs, out, seed + 1) + 0.3 * matrix(4 * inputs, out, seed + 2)
    count = len(x)
    return Quadratic(x.T @ x / count, y.T @ x / count, (y.square().sum(0) / count))


def published(of: Quadratic, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The product and the singular values by Cholesky factor, SVD and inverse (SVD-LLM)."""
    moment = of.moment.numpy()
    root = np.linalg.cholesky(moment)
    best = np.linalg.solve(moment, of.cross.numpy().T).T
    u, s, v = np.linalg.svd(best @ root, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.inv(root), s


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factors", ["balanced", "orthonormal"])
def test_the_pair_is_the_published_whitened_truncation(shape, factors):
    of = problem(*shape)
    rank = max(1, min(shape) // 2)
    expected, values = published(of, rank)
    found = whitened(of)
    left, right = found.pair(rank, factors)
    assert (left.shape, right.shape) == ((shape[0], rank), (rank, shape[1]))
    assert left.is_contiguous()
    assert right.is_contiguous()
    np.testing.assert_allclose((left @ right).numpy(), expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(found.values.numpy(), values, rtol=1e-6, atol=1e-7 * values[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_stated_error_is_the_error_of_the_pair(shape):
    of = problem(*shape)
    found = whitened(of)
    for rank in range(1, min(shape) + 1):
        left, right = found.pair(rank)
        assert found.error(rank) == pytest.approx(float(of.error(left @ right).sum()), rel=1e-8)
    assert found.error(0) == pytest.approx(float(of.energy.sum()))
    # The full rank is the dense minimum, whose error is what no weight can reach.
    assert found.error(min(shape)) == pytest.approx(float(of.error(of.solution).sum()), rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_known_solution_gives_the_same_and_needs_no_solving(shape):
    weight = matrix(*shape)
    of = Quadratic.around(weight, problem(*shape).moment)
    found = whitened(of, weight)
    assert "solution" not in vars(of)
    assert ("cholesky" in vars(of)) == (shape[0] > shape[1])
    solved = whitened(of)
    rank = max(1, min(shape) // 2)
    torch.testing.assert_close(found.values, solved.values, rtol=1e-6, atol=1e-7 * float(solved.values[0]))
    left, right = found.pair(rank)
    expected, _ = published(of, rank)
    np.testing.assert_allclose((left @ right).numpy(), expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(300, 300), (280, 420), (420, 280)])
def test_in_float32_the_output_error_is_the_least_to_a_millionth(shape):
    # Correlated inputs and a power-law spectrum, the shapes large enough for rounding to add up.
    k = min(shape)
    bases = torch.linalg.qr(matrix(shape[0], k)).Q, torch.linalg.qr(matrix(shape[1], k, 1)).Q
    weight = (bases[0] * torch.arange(1, k + 1).double().rsqrt()) @ bases[1].T
    exact = Quadratic.around(weight, problem(4, shape[1]).damped(torch.zeros(4, shape[1])).moment)
    for rank in (k // 8, k // 4, k // 2):
        values = published(exact, rank)[1]
        least = float((values[rank:] ** 2).sum())
        found = whitened(Quadratic.around(weight.float(), exact.moment.float()), weight.float())
        left, right = found.pair(rank)
        assert left.dtype == torch.float32
        error = float(exact.error(left.double() @ right.double()).sum())
        assert error == pytest.approx(least, rel=1e-6)
        assert found.error(rank) == pytest.approx(least, rel=1e-4)


def test_factors_share_the_values_as_they_say():
    of = problem(9, 6)
    found = whitened(of)
    left, right = found.pair(4, "orthonormal")
    torch.testing.assert_close(right @ of.moment @ right.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-8)
    left, right = found.pair(4, "balanced")
    torch.testing.assert_close(left.norm(dim=0), found.values[:4].sqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close(((right @ of.moment) * right).sum(1).sqrt(), found.values[:4].sqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_a_weight_of_low_rank_is_met_exactly_with_finite_factors(shape):
    weight = matrix(shape[0], 2) @ matrix(2, shape[1], 3)
    of = Quadratic.around(weight, problem(*shape).moment)
    left, right = whitened(of, weight).pair(5)
    torch.testing.assert_close(left @ right, weight, rtol=0, atol=1e-6)


def test_a_layer_of_zeros_gives_factors_of_zeros():
    zero = torch.zeros(4, 6, dtype=torch.float64)
    found = whitened(Quadratic.around(zero, problem(4, 6).moment), zero)
    assert found.errors.tolist() == [0.0] * 5
    assert all(int(factor.count_nonzero()) == 0 for factor in found.pair(2))


def unweighted(weight: torch.Tensor) -> Whitened:
    return whitened(Quadratic.around(weight, torch.eye(weight.shape[1], dtype=weight.dtype)), weight)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_rows_and_columns_of_zeros_stay_exactly_positive_zero(shape):
    weight = matrix(*shape)
    weight[2], weight[:, 4] = 0, 0
    of = Quadratic.around(weight, problem(*shape).moment)
    for found in (whitened(of, weight), unweighted(weight)):
        left, right = found.pair(3)
        assert int(left[2].count_nonzero()) == 0
        assert int(right[:, 4].count_nonzero()) == 0
        assert not bool(torch.signbit(left[2]).any() or torch.signbit(right[:, 4]).any())
    product = torch.mm(*whitened(of, weight).pair(3))
    np.testing.assert_allclose(product.numpy(), published(of, 3)[0], rtol=0, atol=1e-9)


def test_the_pair_of_the_negated_weight_is_the_same_but_for_one_sign():
    weight = matrix(6, 9)
    left, right = unweighted(weight).pair(3)
    other = unweighted(-weight).pair(3)
    torch.testing.assert_close(other[0], left, rtol=0, atol=1e-12)
    torch.testing.assert_close(other[1], -right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_the_identity_it_is_the_truncated_svd(shape):
    weight = matrix(*shape)
    rank = max(1, min(shape) // 2)
    found = unweighted(weight)
    expected = factor_pair(thin_svd(weight, "float64"), rank, "balanced")
    left, right = found.pair(rank)
    torch.testing.assert_close(left @ right, expected[0] @ expected[1], rtol=0, atol=1e-7)
    torch.testing.assert_close(left.norm(dim=0), expected[0].norm(dim=0))
    torch.testing.assert_close(right.norm(dim=1), expected[1].norm(dim=1))
    assert found.error(rank) == pytest.approx(float((weight - left @ right).square().sum()), abs=1e-9)


@settings(max_examples=30)
@given(out=st.integers(2, 12), inputs=st.integers(2, 12), seed=st.integers(0, 1000), data=st.data())
def test_no_other_pair_of_the_rank_is_better(out, inputs, seed, data):
    of = problem(out, inputs, seed)
    rank = data.draw(st.integers(1, min(out, inputs)))
    found = whitened(of)
    other = matrix(out, rank, seed + 5), matrix(rank, inputs, seed + 6)
    assert found.error(rank) <= float(of.error(other[0] @ other[1]).sum()) * (1 + 1e-9)
    near = [factor + 1e-3 * matrix(*factor.shape, seed + 7) for factor in found.pair(rank)]
    assert found.error(rank) <= float(of.error(near[0] @ near[1]).sum()) * (1 + 1e-9)
    assert bool((found.errors.diff() <= 1e-9).all())


def test_what_does_not_fit_is_refused():
    of = problem(4, 6)
    found = whitened(of)
    for rank in (0, 5):
        with pytest.raises(ValueError, match=f"rank {rank}"):
            found.pair(rank)
    with pytest.raises(ValueError, match="square"):
        found.pair(1, "square")
    with pytest.raises(ValueError, match="do not fit"):
        whitened(of, torch.zeros(6, 4))
    with pytest.raises(ValueError, match="NaN"):
        whitened(of, torch.full((4, 6), float("nan")))
    with pytest.raises(ValueError, match="infinity"):
        whitened(of, torch.tensor([[float("inf"), *[1.0] * 5]] * 4, dtype=torch.float64))


def test_a_moment_that_is_not_definite_is_refused():
    with pytest.raises(torch.linalg.LinAlgError):
        whitened(Quadratic(torch.zeros(3, 3), torch.ones(2, 3), torch.ones(2)))
