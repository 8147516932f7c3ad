"""The null-space update against the paper's formula, a constrained least squares, and its two limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops.null_space import null_space_of_inputs, null_space_update
from rcc.ops.quadratic import Quadratic

OUT, INPUTS = 7, 12


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def second_moment(inputs: torch.Tensor) -> torch.Tensor:
    """Of inputs (in, samples), as columns."""
    return inputs @ inputs.T / inputs.shape[1]


def wanted(seed: int = 0) -> tuple[Quadratic, torch.Tensor]:
    """Outputs wanted of inputs that span everything, and the weight to change."""
    x, y = matrix(INPUTS, 60, seed + 1), matrix(OUT, 60, seed + 2)
    return Quadratic(second_moment(x), y @ x.T / 60, y.square().mean(1)), matrix(OUT, INPUTS, seed + 3)


def low_rank_inputs(rank: int, seed: int = 5) -> torch.Tensor:
    return matrix(INPUTS, rank, seed) @ matrix(rank, 80, seed + 1)


def test_it_is_the_papers_formula():
    weight = matrix(OUT, INPUTS)
    preserved, k1, kp, v1 = low_rank_inputs(5), matrix(INPUTS, 4, 1), matrix(INPUTS, 3, 2), matrix(OUT, 4, 3)
    values, vectors = np.linalg.eigh((preserved @ preserved.T).numpy())
    null = vectors[:, values < 1e-8]
    projector = null @ null.T
    residual = (v1 - weight @ k1).numpy()
    inverse = np.linalg.inv((kp @ kp.T).numpy() @ projector + (k1 @ k1.T).numpy() @ projector + np.eye(INPUTS))
    expected = residual @ k1.T.numpy() @ projector @ inverse
    about = kp @ kp.T + torch.eye(INPUTS, dtype=torch.float64)
    problem = Quadratic(k1 @ k1.T + about, v1 @ k1.T + weight @ about, torch.zeros(OUT))
    update = null_space_update(problem, weight, second_moment(preserved), energy=0)
    np.testing.assert_allclose(update.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 5, 11])
@pytest.mark.parametrize("energy", [0.0, 1e-12])
def test_preserved_inputs_of_low_rank_keep_their_outputs(rank, energy):
    problem, weight = wanted()
    preserved = low_rank_inputs(rank)
    update = null_space_update(problem, weight, second_moment(preserved), energy)
    before = weight @ preserved
    torch.testing.assert_close((weight + update) @ preserved, before, rtol=0, atol=1e-9)
    assert float(problem.error(weight + update).sum()) < float(problem.error(weight).sum())


def test_in_float32_too_they_keep_them_to_a_millionth():
    problem, weight = wanted()
    preserved = low_rank_inputs(5)
    single = Quadratic(problem.moment.float(), problem.cross.float(), problem.energy)
    update = null_space_update(single, weight.float(), second_moment(preserved).float(), energy=1e-6)
    assert update.dtype == torch.float32
    change = (update.double() @ preserved).norm() / (weight @ preserved).norm()
    assert float(change) < 1e-6


def test_no_other_change_that_preserved_inputs_do_not_see_is_better():
    problem, weight = wanted()
    preserved = low_rank_inputs(5)
    update = null_space_update(problem, weight, second_moment(preserved), energy=0)
    # Numpy's least squares over the coordinates in the null space, by the root of H.
    values, vectors = np.linalg.eigh(problem.moment.numpy())
    root = (vectors * np.sqrt(values)) @ vectors.T
    null = np.linalg.svd(preserved.numpy())[0][:, 5:]
    target = (problem.solution - weight).numpy() @ root
    expected = np.linalg.lstsq((null.T @ root).T, target.T, rcond=None)[0].T @ null.T
    np.testing.assert_allclose(update.numpy(), expected, rtol=0, atol=1e-9)


def test_with_nothing_to_preserve_it_reaches_the_dense_minimum():
    problem, weight = wanted()
    update = null_space_update(problem, weight, torch.zeros(INPUTS, INPUTS, dtype=torch.float64))
    torch.testing.assert_close(weight + update, problem.solution, rtol=0, atol=1e-9)


def test_where_all_is_preserved_nothing_changes():
    problem, weight = wanted()
    update = null_space_update(problem, weight, torch.eye(INPUTS, dtype=torch.float64), energy=0)
    assert update.shape == weight.shape
    assert int(update.count_nonzero()) == 0


@settings(max_examples=40)
@given(seed=st.integers(0, 10**4), energy=st.floats(0, 0.99), scale=st.floats(1e-6, 1e6))
def test_the_basis_holds_at_most_the_energy_and_one_more_direction_would_hold_more(seed, energy, scale):
    moment = scale * second_moment(matrix(INPUTS, 40, seed) * torch.logspace(0, -2, INPUTS).double()[:, None])
    basis = null_space_of_inputs(moment, energy)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), rtol=0, atol=1e-10)
    values = np.linalg.eigvalsh(moment.numpy())
    held = float(((basis @ moment) * basis).sum())
    assert held <= energy * values.sum() * (1 + 1e-9) + 1e-12 * values.sum()
    assert len(basis) < INPUTS
    assert values[: len(basis) + 1].sum() > energy * values.sum() * (1 - 1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), energy=st.floats(1e-4, 0.5))
def test_the_change_of_preserved_outputs_is_within_the_stated_bound(seed, energy):
    problem, weight = wanted(seed)
    moment = second_moment(matrix(INPUTS, 40, seed) * torch.logspace(0, -3, INPUTS).double()[:, None])
    update = null_space_update(problem, weight, moment, energy)
    change = float(((update @ moment) * update).sum())
    assert change <= float(torch.linalg.matrix_norm(update, 2)) ** 2 * energy * float(moment.trace()) * (1 + 1e-9)


def test_what_does_not_fit_is_refused():
    problem, weight = wanted()
    eye = torch.eye(INPUTS, dtype=torch.float64)
    with pytest.raises(ValueError, match="do not fit"):
        null_space_update(problem, weight.T, eye)
    with pytest.raises(ValueError, match="do not fit"):
        null_space_update(problem, weight, eye[:3, :3])
    with pytest.raises(ValueError, match="second moment"):
        null_space_of_inputs(eye[:3])
    with pytest.raises(ValueError, match="second moment"):
        null_space_of_inputs(eye * float("nan"))
    for energy in (-0.1, 1.0):
        with pytest.raises(ValueError, match="outside"):
            null_space_of_inputs(eye, energy)
