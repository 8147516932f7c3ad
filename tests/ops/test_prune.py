"""Masking, rescaling and deltas, against the formulas they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcc.ops.prune import (
    add_delta,
    delta,
    least_squares_factor,
    prune_,
    relative_error,
    rescale,
    squared_norm,
    survival_factor,
)
from rcc.ops.select import select_smallest, thresholds_of_smallest


def signs(tensor: torch.Tensor) -> list[bool]:
    return torch.signbit(tensor).tolist()


def test_pruned_values_are_positive_zero_and_the_rest_is_untouched() -> None:
    weight = torch.tensor([-1.0, 2.0, -0.0, -4.0])
    assert prune_(weight, torch.tensor([True, False, True, False])) is weight
    assert weight.tolist() == [0.0, 2.0, 0.0, -4.0]
    assert signs(weight) == [False, False, False, True]


def test_a_threshold_prunes_what_its_mask_would() -> None:
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    (mask,), (threshold,) = select_smallest([weight], 700), thresholds_of_smallest([weight], 700)
    assert torch.equal(prune_(weight.clone(), threshold), prune_(weight.clone(), mask))


def test_a_negative_factor_leaves_zeros_positive() -> None:
    scaled = rescale(torch.tensor([[0.0, 2.0], [0.0, -3.0]]), torch.tensor([[-1.0], [2.0]]))
    assert scaled.tolist() == [[0.0, -2.0], [0.0, -6.0]]
    assert not any(signs(scaled[:, 0]))


def test_rescaling_keeps_the_dtype() -> None:
    assert rescale(torch.ones(2, 2).bfloat16(), torch.full((2, 1), 1.5).double()).dtype == torch.bfloat16


def test_the_survival_factor_is_that_of_dare_and_composes_over_steps() -> None:
    assert survival_factor(1000, 100) == pytest.approx(1 / (1 - 0.9))
    assert survival_factor(1000, 400) * survival_factor(400, 100) == pytest.approx(survival_factor(1000, 100))
    assert survival_factor(10, 0) == 1.0


def products(weight: np.ndarray, pruned: np.ndarray, moment: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    cross = np.einsum("oi,ij,oj->o", weight, moment, pruned)
    energy = np.einsum("oi,ij,oj->o", pruned, moment, pruned)
    return torch.from_numpy(cross), torch.from_numpy(energy)


def test_the_least_squares_factor_is_numpys_solution_row_by_row() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    weight = rng.normal(size=(5, 12))
    pruned = weight * (np.abs(weight) > 0.7)
    found = least_squares_factor(*products(weight, pruned, inputs.T @ inputs))
    wanted = [
        np.linalg.lstsq(inputs @ p[:, None], inputs @ w, rcond=None)[0][0] for w, p in zip(weight, pruned, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)
    assert not np.allclose(wanted, 1, atol=0.01)


@pytest.mark.parametrize("moment", [np.eye(12), np.diag(np.arange(1.0, 13.0))], ids=["identity", "diagonal"])
def test_after_masking_the_least_squares_factor_is_one_unless_inputs_are_correlated(moment: np.ndarray) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 12))
    pruned = weight * (np.abs(weight) > 0.7)
    np.testing.assert_allclose(least_squares_factor(*products(weight, pruned, moment)).numpy(), 1, rtol=1e-12)


def test_a_row_without_output_keeps_factor_one() -> None:
    assert least_squares_factor(torch.zeros(2), torch.tensor([0.0, 4.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_dropped_delta_leaves_the_base_bit_for_bit_and_a_kept_one_the_weight(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(30, 20, generator=generator).to(dtype)
    base[0, 0] = -0.0
    weight = (base.float() + 0.1 * torch.randn(30, 20, generator=generator)).to(dtype)
    weight[3] = base[3]
    change = delta(weight, base)
    assert torch.equal(change == 0, weight == base)
    restored = add_delta(base, torch.zeros_like(change), dtype)
    assert torch.equal(restored, base)
    assert bool(torch.signbit(restored[0, 0]))
    torch.testing.assert_close(add_delta(base, change, dtype), weight)


def test_true_dare_keeps_the_mean_of_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    base, change = torch.randn(64, generator=generator), torch.randn(64, generator=generator)
    drop = torch.rand(20000, 64, generator=generator) < 0.75
    merged = add_delta(base, rescale(prune_(change.repeat(20000, 1), drop), 1 / (1 - 0.75)), torch.float32)
    # Standard error of a mean of 20,000: √(p/(1 − p)) |δ| / √20000 ≤ 0.04 for |δ| ≤ 3.
    assert float((merged.mean(0) - (base + change)).abs().max()) < 0.1


def test_norms_are_those_of_numpy_in_float64() -> None:
    weight = torch.randn(300, 7, generator=torch.Generator().manual_seed(0)).half() * 1e-4
    mask = weight > 0
    wide = weight.double().numpy()
    assert squared_norm(weight) == pytest.approx(np.square(wide).sum(), rel=1e-12)
    assert squared_norm(weight, mask) == pytest.approx(np.square(wide[mask.numpy()]).sum(), rel=1e-12)


def test_relative_error_has_known_values() -> None:
    weight = torch.tensor([3.0, 4.0])
    assert relative_error(weight, torch.tensor([0.0, 4.0])) == pytest.approx(0.6)
    assert relative_error(weight, weight) == 0
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.zeros(2), weight) == float("inf")
