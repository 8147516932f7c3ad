"""Subspaces against scipy in float64, and by hand where the angles are known."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.ops.subspace import compare, complement, principal_angles, project_out, row_basis


def rows(k: int, n: int, seed: int) -> torch.Tensor:
    return torch.randn(k, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis(k: int, n: int, seed: int) -> torch.Tensor:
    return row_basis(rows(k, n, seed))


def projector(basis: torch.Tensor) -> torch.Tensor:
    return basis.T @ basis


@given(n=st.integers(2, 12), seed=st.integers(0, 10**6), data=st.data())
def test_principal_angles_are_scipys(n, seed, data):
    k1, k2 = (data.draw(st.integers(1, n)) for _ in range(2))
    first, second = basis(k1, n, seed), basis(k2, n, seed + 1)
    expected = np.sort(scipy.linalg.subspace_angles(first.T.numpy(), second.T.numpy()))
    # scipy itself loses half the digits of an angle near zero when another is above π/4.
    np.testing.assert_allclose(principal_angles(first, second).numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-7, 0.3, math.pi / 4, 1.2, math.pi / 2])
def test_a_known_angle_is_found_however_small(angle):
    first = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    second = torch.tensor([[math.cos(angle), math.sin(angle), 0]], dtype=torch.float64)
    assert float(principal_angles(first, second)) == pytest.approx(angle, rel=1e-9, abs=1e-15)


def test_a_basis_and_its_complement_span_everything_and_nothing_twice():
    first = basis(3, 8, 0)
    rest = complement(first)
    assert rest.shape == (5, 8)
    torch.testing.assert_close(projector(first) + projector(rest), torch.eye(8, dtype=torch.float64))


def test_the_complement_of_everything_is_empty():
    assert complement(torch.eye(4)).shape == (0, 4)


def test_a_row_basis_is_orthonormal_and_spans_the_rows():
    matrix = rows(4, 9, 3).float()
    found = row_basis(matrix)
    torch.testing.assert_close(found @ found.T, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(matrix.double() @ projector(found), matrix.double())


def test_dependent_and_zero_rows_add_nothing_to_a_row_basis():
    matrix = rows(2, 9, 3).float()
    padded = torch.cat([matrix, 3 * matrix[:1] - matrix[1:], torch.zeros(2, 9)])
    assert row_basis(padded).shape == (2, 9)
    torch.testing.assert_close(projector(row_basis(padded)), projector(row_basis(matrix)), rtol=0, atol=1e-6)
    assert row_basis(torch.zeros(3, 5)).shape == (0, 5)


@given(n=st.integers(2, 12), seed=st.integers(0, 10**6), data=st.data())
def test_the_overlap_is_the_mean_squared_cosine_of_scipys_angles(n, seed, data):
    k1, k2 = (data.draw(st.integers(1, n)) for _ in range(2))
    first, second = basis(k1, n, seed), basis(k2, n, seed + 1)
    angles = scipy.linalg.subspace_angles(first.T.numpy(), second.T.numpy())
    found = compare(first, second)
    assert found.overlap == pytest.approx(float(np.mean(np.cos(angles) ** 2)), abs=1e-12)
    assert (found.widths, found.dimension) == ((k1, k2), n)


def test_the_baseline_is_the_mean_overlap_of_random_subspaces():
    found = [compare(basis(3, 10, seed), basis(3, 10, seed + 500)) for seed in range(400)]
    mean = np.mean([pair.overlap for pair in found])
    error = np.std([pair.overlap for pair in found]) / math.sqrt(len(found))
    assert found[0].baseline == 0.3
    assert abs(mean - 0.3) < 4 * error < 0.03


def test_equal_spaces_overlap_wholly_and_orthogonal_ones_not_at_all():
    space = torch.eye(6)[:2]
    same, other = compare(space, space), compare(space, torch.eye(6)[2:4])
    assert (same.overlap, same.distance, same.excess) == (1.0, 0.0, 1.0)
    assert (other.overlap, other.distance) == (0.0, pytest.approx(1.0))
    assert other.excess == pytest.approx(-(2 / 6) / (4 / 6))


def test_the_basis_chosen_for_a_space_does_not_matter():
    space, mixing = basis(3, 8, 0), torch.linalg.qr(rows(3, 3, 1))[0]
    found, mixed = compare(space, basis(3, 8, 2)), compare(mixing @ space, basis(3, 8, 2))
    assert mixed.overlap == pytest.approx(found.overlap)
    assert mixed.distance == pytest.approx(found.distance)


@given(n=st.integers(3, 12), seed=st.integers(0, 10**6), data=st.data())
def test_null_spaces_share_the_nonzero_angles_of_their_row_spaces(n, seed, data):
    k = data.draw(st.integers(1, n - 1))
    first, second = basis(k, n, seed), basis(k, n, seed + 1)
    angles, others = principal_angles(first, second), principal_angles(complement(first), complement(second))
    width = min(k, n - k)
    torch.testing.assert_close(angles[-width:], others[-width:], rtol=0, atol=1e-7)
    assert float(angles[:-width].sum() + others[:-width].sum()) < 1e-6
    direct, complementary = compare(first, second), compare(complement(first), complement(second))
    assert complementary.distance == pytest.approx(direct.distance, abs=1e-9)


def test_the_distance_reaches_one_for_wide_spaces_too():
    # Two 3-dimensional spaces of R⁴ share at least two dimensions; here the third is orthogonal.
    first, second = torch.eye(4)[[0, 1, 2]], torch.eye(4)[[0, 1, 3]]
    assert compare(first, second).distance == pytest.approx(1.0)
    assert compare(first, second).overlap == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [(2, 3, "widths 2 and 3 differ"), (5, 5, "both span all 5"), (0, 2, "one subspace is empty"), (0, 0, "both")],
)
def test_an_undefined_distance_is_nan_with_its_reason(first, second, reason):
    found = compare(torch.eye(5)[:first], torch.eye(5)[:second])
    assert math.isnan(found.distance)
    assert reason in found.reason


def test_the_excess_is_nan_where_all_is_spanned():
    assert math.isnan(compare(torch.eye(5), torch.eye(5)).excess)


def test_spaces_of_different_dimension_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(torch.eye(4)[:2], torch.eye(5)[:2])


def test_projecting_out_leaves_nothing_along_the_directions_and_the_rest_untouched():
    matrix, directions = rows(6, 4, 0).float(), basis(2, 6, 1)
    found = project_out(matrix, directions)
    assert found.dtype == matrix.dtype
    assert float((directions.float() @ found).abs().max()) < 1e-6
    rest = complement(directions).float()
    torch.testing.assert_close(rest @ found, rest @ matrix)
