"""Update a weight in the null space of inputs that must be preserved: AlphaEdit in closed form.

Fang et al. 2024 (arXiv:2410.02355, "AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models", the
closed form of their method section): with P the projector on the null space of the preserved inputs K₀, the
wanted outputs V₁ of inputs K₁, and K_p the inputs of earlier edits,

    Δ = R K₁ᵀ P (K_p K_pᵀ P + K₁ K₁ᵀ P + I)⁻¹,   R = V₁ − W K₁,   which minimises
    ‖(W + Δ P) K₁ − V₁‖² + ‖Δ P K_p‖² + ‖Δ P‖².

All three terms are one `Quadratic` about W: H = K₁ K₁ᵀ + K_p K_pᵀ + I and G = V₁ K₁ᵀ + W (K_p K_pᵀ + I), which is what
`Quadratic.damped(near=W)` adds for the last. With N (k, in) an orthonormal basis of the null space, P = Nᵀ N, the
update is (G − W H) Nᵀ (N H Nᵀ)⁻¹ N: a Cholesky factor of k rows in place of the inverse of an unsymmetric matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.quadratic import Quadratic
from rcc.ops.symmetric import descending_eigh

ENERGY = 0.01
"""Share of the second moment of the preserved inputs that the null space may hold, unless told otherwise."""


def null_space_of_inputs(moment: Tensor, energy: float = ENERGY) -> Tensor:
    """An orthonormal basis (k, in) of the directions that hold at most `energy` of E‖x‖², in the dtype of `moment`.

    The widest span of trailing eigenvectors of E[x xᵀ] (in, in) whose eigenvalues sum to no more than that share of
    the trace. (The paper compares every eigenvalue with 0.01 itself, which depends on the units of x.) Eigenvalues
    within rounding of zero, ε · in of the largest, always belong to it. Costs one eigendecomposition.

    Raises:
        ValueError: a moment that is not square and finite, or an energy outside [0, 1).
    """
    if moment.dim() != 2 or moment.shape[0] != moment.shape[1] or not bool(torch.isfinite(moment).all()):
        raise ValueError(f"a finite second moment is needed, not a tensor of shape {tuple(moment.shape)}")
    if not 0 <= energy < 1:
        raise ValueError(f"a share of energy of {energy} is outside [0, 1)")
    values, vectors = descending_eigh(moment)
    values = values.double().clamp_min(0)
    tails = values.flip(0).cumsum(0).flip(0)
    rounding = torch.finfo(moment.dtype).eps * moment.shape[0] * values[0]
    # Along falling values both conditions hold up to a place and never again: the null space begins at their count.
    kept = int(((tails > energy * tails[0]) & (values > rounding)).sum())
    return vectors[:, kept:].T.contiguous()


def null_space_update(problem: Quadratic, weight: Tensor, preserved: Tensor, energy: float = ENERGY) -> Tensor:
    """The change (out, in) of `weight` that minimises the quadratic among those that preserved inputs do not see.

    Args:
        problem: the outputs wanted, on the inputs to repair; damped about `weight`, unless these inputs span the
            null space.
        weight: W (out, in), as it is now.
        preserved: second moment (in, in) of the inputs whose outputs are to stay.
        energy: see `null_space_of_inputs`.

    The preserved outputs change by E‖Δ x‖² ≤ ‖Δ‖² · energy · E‖x‖², that is not at all where their moment has a true
    null space and `energy` is 0. With nothing to preserve, a moment of zeros, W + Δ is the dense minimum; with a null
    space of dimension 0 Δ is zero. Costs the eigendecomposition and 2 k in² + out in (in + k) multiply-adds.

    Raises:
        ValueError: shapes that do not fit, or what `null_space_of_inputs` raises.
        torch.linalg.LinAlgError: H is singular on the null space; damp it.
    """
    out, inputs = problem.cross.shape
    if weight.shape != (out, inputs) or preserved.shape != (inputs, inputs):
        raise ValueError(
            f"a weight {tuple(weight.shape)} and a moment {tuple(preserved.shape)} do not fit ({out}, {inputs})"
        )
    dtype = problem.moment.dtype
    basis = null_space_of_inputs(preserved, energy).to(dtype)
    residual = problem.cross - weight.to(dtype) @ problem.moment
    # N H Nᵀ has the condition of H at most, as N has orthonormal rows.
    inner = torch.linalg.cholesky(basis @ problem.moment @ basis.T)
    return torch.cholesky_solve((residual @ basis.T).T, inner).T @ basis
