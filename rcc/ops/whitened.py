"""Compute the best weight of a given rank in the metric of a layer's inputs, in closed form.

With W* = G H⁻¹ the dense minimum of E‖y − V x‖² (see `rcc.ops.quadratic`) and σᵢ the singular values of W* H^½,

    E‖y − V x‖² = energy − ‖W* H^½‖² + ‖(W* − V) H^½‖²,    least over rank r:  energy − Σ_{i ≤ r} σᵢ²

by Eckart and Young. SVD-LLM (Wang et al. 2024, arXiv:2403.07378) takes H = L Lᵀ, the SVD of W* L, and L⁻¹. The
same weight is the projection of W* on the leading eigenvectors of the smaller of W* H W*ᵀ = G W*ᵀ (out, out) and
Lᵀ W*ᵀ W* L (in, in): an eigendecomposition of half the size in the place of an SVD, and no inverse where out ≤ in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rcc.ops.factorise import FACTORS
from rcc.ops.quadratic import Quadratic
from rcc.ops.symmetric import descending_eigh, lower_triangle


@dataclass(frozen=True)
class Whitened:
    """Every best truncation of one layer; `pair` writes one out.

    The eigenvectors are those of a matrix within δ of the true one in the 2-norm, δ = c ε ‖W*‖² ‖H‖ with ε that of
    the dtype and c a small constant, and are optimal for it. By Ky Fan's theorem the squared output error of
    `pair(rank)` is then at most 2 δ rank above the least possible; in practice far less, for what the vectors
    lose is of second order in δ. Values below √δ are not known to any digit, and `errors` carry an
    error of the order of δ.

    values: σ (min(out, in),), descending, float64.
    energy: E‖y‖².
    solution: W* (out, in).
    vectors: the leading eigenvectors as columns, (out, out) where out ≤ in and else (in, in).
    live: which outputs, or where out > in which inputs, have a weight other than zero.
    root: L (in, in) where out > in and H is not the identity, else None.
    """

    values: Tensor
    energy: float
    solution: Tensor
    vectors: Tensor
    live: Tensor
    root: Tensor | None

    @property
    def errors(self) -> Tensor:
        """E‖y − U V x‖² of rank 0, 1, … min(out, in), float64, (min(out, in) + 1,); never rising."""
        kept = torch.cat([self.values.new_zeros(1), self.values.square().cumsum(0)])
        return (self.energy - kept).clamp_min(0)

    def error(self, rank: int) -> float:
        """E‖y − U V x‖² of `pair(rank)`; rank 0 is no weight at all."""
        self._check(rank, least=0)
        return float(self.errors[rank])

    def pair(self, rank: int, factors: str = "balanced") -> tuple[Tensor, Tensor]:
        """The contiguous factors U (out, rank) and V (rank, in) of the best weight of that rank.

        'orthonormal' puts the singular values into U and leaves V H Vᵀ = I; 'balanced' gives each factor their
        square root, so that the columns of U and, in the metric, the rows of V are equally long.

        Raises:
            ValueError: a rank outside 1 … min(out, in), or unknown factors.
        """
        self._check(rank, least=1)
        if factors not in FACTORS:
            raise ValueError(f"factors '{factors}' are none of {', '.join(FACTORS)}")
        values = self.values[:rank].to(self.solution.dtype)
        vectors = self.vectors[:, :rank]
        # The sign of a singular vector is free: the largest entry is made positive, the first on a tie.
        peak = vectors.abs().argmax(0, keepdim=True)
        vectors = torch.where(vectors.gather(0, peak) < 0, -vectors, vectors)
        # Rows or columns of zeros stay so; with a root the vectors are not those of the weight's own columns yet.
        if self.root is None:
            vectors = vectors.masked_fill(~self.live[:, None], 0.0)
        # U of the wide is orthonormal before it is scaled; U of the tall holds the values already.
        wide = self.solution.shape[0] <= self.solution.shape[1]
        power = (1.0 if factors == "orthonormal" else 0.5) - (0.0 if wide else 1.0)
        # A value within rounding of zero has no direction: zeros for factors, not quotients of rounding errors.
        present = values > torch.finfo(values.dtype).eps * values[0]
        scaled = vectors * torch.where(present, values.where(present, 1.0).pow(power), 0.0)
        inverse = vectors * torch.where(present, values.where(present, 1.0).pow(-power), 0.0)
        if wide:
            return scaled, inverse.T @ self.solution
        if self.root is None:
            return self.solution @ scaled, inverse.T.contiguous()
        right = torch.linalg.solve_triangular(self.root, inverse.T, upper=False, left=False)
        return self.solution @ (self.root @ scaled), right.masked_fill(~self.live, 0.0).contiguous()

    def _check(self, rank: int, least: int) -> None:
        if not least <= rank <= self.values.numel():
            raise ValueError(f"rank {rank} of a layer that has ranks {least} to {self.values.numel()}")


def whitened(problem: Quadratic, solution: Tensor | None = None) -> Whitened:
    """All best truncations of the quadratic, in the dtype of its moment.

    Args:
        problem: H positive definite.
        solution: W* (out, in) where it is known, as it is of `Quadratic.around`, where it is the weight; else it
            is solved for by the Cholesky factor of H.

    Costs, in multiply-adds for out ≤ in: out² in / 2 for G W*ᵀ, an eigendecomposition of (out, out), and
    rank · out · in a pair; for out > in: out in² / 2 + 1.5 in³, one of (in, in), and rank (out in + in²). In float32
    it is twice as fast as in float64 and accurate to what `Whitened` says.

    Raises:
        ValueError: shapes that do not fit, or a NaN or an infinity anywhere.
        torch.linalg.LinAlgError: H is not positive definite; damp it.
    """
    out, inputs = problem.cross.shape
    if problem.moment.shape != (inputs, inputs) or (solution is not None and solution.shape != (out, inputs)):
        raise ValueError("the moment, the cross moment and the solution do not fit")
    best = problem.solution if solution is None else solution.to(problem.moment.dtype)
    energy = float(problem.energy.sum())
    if out <= inputs:
        gram = lower_triangle(problem.cross, best.T)
        return _truncations(gram, gram.diagonal(), energy, best, None)
    gram, inner = _in_the_root(best, problem.cholesky)
    return _truncations(gram, inner.diagonal(), energy, best, problem.cholesky)


def _in_the_root(weight: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Lower triangles of Lᵀ Wᵀ W L and of Wᵀ W, (in, in)."""
    inner = lower_triangle(weight.T, weight)
    full = inner.tril() + inner.tril(-1).T
    return lower_triangle(root.T, full @ root), inner


def _truncations(gram: Tensor, squares: Tensor, energy: float, solution: Tensor, root: Tensor | None) -> Whitened:
    """Of the weight whose whitened Gram matrix is `gram`, and the squares of whose rows or columns are `squares`."""
    # What is not finite anywhere in a row makes its square so, and the diagonal is read in no time.
    if not bool(torch.isfinite(gram.diagonal()).all()):
        raise ValueError("the weight or a moment of the layer holds a NaN or an infinity")
    found, vectors = descending_eigh(gram)
    return Whitened(found.double().clamp_min(0).sqrt(), energy, solution, vectors, squares != 0, root)
