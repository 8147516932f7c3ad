"""Express a layer's output error as a quadratic in its weight: E‖y − V x‖² over calibration inputs x and targets y.

    E‖y − V x‖² = tr(V H Vᵀ) − 2 tr(V Gᵀ) + energy,   H = E[x xᵀ],   G = E[y xᵀ],   energy = E‖y‖²

x are the inputs the layer really sees, y the outputs it should give (the dense model's, as a rule). Every
calibrated method of the project minimises this one objective, over sparse, low-rank or quantised V.

A grouped convolution has as many moments as groups, (groups, in, in), one for each out / groups rows of V: all that
is said of H holds of each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rcc.ops.groups import by_group, diagonal, for_rows, groups_of, times

DAMPING = 0.01
"""The default damping of the diagonal of H, as a share of its mean."""


@dataclass(frozen=True)
class Quadratic:
    """tr(V H Vᵀ) − 2 tr(V Gᵀ) + energy, for V (out, in).

    moment: H (in, in) or (groups, in, in), symmetric and positive definite (see `damped`).
    cross: G (out, in).
    energy: E[yᵢ²] of each output, (out,), float64.
    """

    moment: Tensor
    cross: Tensor
    energy: Tensor

    @classmethod
    def around(cls, weight: Tensor, moment: Tensor) -> Quadratic:
        """The objective of staying near `weight` (out, in) on inputs of second moment `moment`: G = W H."""
        weight = weight.to(moment.dtype)
        # y = W x makes E[y xᵀ] = W H and E[y yᵀ] = W H Wᵀ, of which the diagonal is the energy.
        cross = times(weight, moment)
        return cls(moment, cross, (cross * weight).sum(1, dtype=torch.float64))

    @property
    def groups(self) -> int | None:
        """How many groups of rows have inputs of their own; None where all rows have the same."""
        return groups_of(self.moment)

    @property
    def diagonal(self) -> Tensor:
        """H_jj (in,) or (groups, in), a view."""
        return diagonal(self.moment)

    def damped(self, near: Tensor, share: float = DAMPING) -> Quadratic:
        """The same with λ‖V − near‖² added, λ = share · mean(diag H), or 1 of H = 0: what inputs do not tell, `near`
        decides. H + λI is positive definite but for rounding.
        """
        # A share of the mean of H's diagonal, so that λ scales with H where the inputs come in other units.
        weight = share * self.diagonal.mean(-1, keepdim=True).double()
        weight = torch.where(weight > 0, weight, 1.0)
        moment = self.moment.clone()
        diagonal(moment).add_(weight)
        near = near.to(self.cross.dtype)
        weight = for_rows(weight, len(near))
        # λ‖V − N‖² = tr(V λI Vᵀ) − 2 tr(V λNᵀ) + λ‖N‖²: each term joins the one of its kind.
        return Quadratic(
            moment,
            self.cross + weight.to(near) * near,
            self.energy + weight.view(-1) * near.square().sum(1, dtype=torch.float64),
        )

    def shrunk(self, near: Tensor, count: float) -> Quadratic:
        """The same with H `shrunk`, and the part ρ of it that goes to the diagonal counts from `near`."""
        sizes = self.diagonal
        moment, share = shrunk(self.moment, count)
        near = near.to(self.cross.dtype)
        rows = for_rows(share.view(-1, 1), len(near))
        kept = near * for_rows(sizes, len(near))
        return Quadratic(
            moment,
            self.cross * (1 - rows) + rows * kept,
            self.energy * (1 - rows).view(-1) + rows.view(-1) * (near * kept).sum(1, dtype=torch.float64),
        )

    def definite(self, near: Tensor, share: float = DAMPING) -> Quadratic:
        """`damped` by `share`, or by ten times as much for as long as rounding leaves H indefinite.

        Raises:
            torch.linalg.LinAlgError: it is indefinite even where `near` counts as much as the inputs do.
        """
        # Rounding H errs in proportion to its largest eigenvalue, which may be as much as `in` times the mean of the
        # diagonal that λ is measured by: no fixed share suffices for every layer.
        while True:
            damped = self.damped(near, share)
            try:
                damped.cholesky  # noqa: B018 - kept by the objective, for which it is asked next
            except torch.linalg.LinAlgError:
                if share >= 1:
                    raise
                share *= 10
            else:
                return damped

    def to(self, dtype: torch.dtype) -> Quadratic:
        """The same in another dtype; `energy` stays float64."""
        return Quadratic(self.moment.to(dtype), self.cross.to(dtype), self.energy)

    def error(self, weight: Tensor) -> Tensor:
        """E[(yᵢ − vᵢ x)²] of each output, (out,), float64; rounding below zero is cut off."""
        weight = weight.to(self.moment.dtype)
        # Row by row, no (out, out) product for a trace. The terms nearly cancel where the fit is good, hence float64 in
        # sums, and a result that rounding may leave below zero.
        change = (times(weight, self.moment) - 2 * self.cross) * weight
        return (change.sum(1, dtype=torch.float64) + self.energy).clamp_min(0)

    def relative_error(self, weight: Tensor) -> float:
        """E‖y − V x‖² / E‖y‖²; 0 where there is nothing to reproduce."""
        total = float(self.energy.sum())
        return float(self.error(weight).sum()) / total if total > 0 else 0.0

    @cached_property
    def cholesky(self) -> Tensor:
        """L (…, in, in) lower with L Lᵀ = H, computed once.

        Raises:
            torch.linalg.LinAlgError: H is not positive definite; damp it.
        """
        return torch.linalg.cholesky(self.moment)

    @cached_property
    def solution(self) -> Tensor:
        """The dense minimum G H⁻¹ (out, in), by the Cholesky factor; computed once."""
        # H is symmetric, so that (G H⁻¹)ᵀ = H⁻¹ Gᵀ: two triangular solves, and no inverse is formed.
        solved = torch.cholesky_solve(by_group(self.cross, self.groups).mT, self.cholesky).mT
        return solved if self.groups is None else solved.flatten(0, 1)


def shrunk(moment: Tensor, count: float) -> tuple[Tensor, Tensor]:
    """H (…, in, in) shrunk towards its diagonal, (1 − ρ) H + ρ diag(H), as far as `count` independent inputs leave its
    other entries unsure; and ρ (…).

    Few inputs of many values seem to lie in a plane, along which any error looks free; of inputs not yet seen it is
    not. ρ is that of the oracle approximating shrinkage, taken of the correlations: with C of p rows,
    ((1 − 2/p) tr C² + p²) / ((count + 1 − 2/p) (tr C² − p)), at most 1.

    Source: Chen, Wiesel, Eldar & Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 2010, (23).
    """
    sizes = diagonal(moment)
    scale = torch.where(sizes > 0, sizes, torch.inf).rsqrt()
    width = (sizes > 0).sum(-1).clamp_min(2).double()
    correlations = (moment * scale[..., :, None]).mul_(scale[..., None, :])
    squares = correlations.square_().sum((-2, -1), dtype=torch.float64)
    apart = (squares - width).clamp_min(1e-12)
    share = ((1 - 2 / width) * squares + width.square()) / ((count + 1 - 2 / width) * apart)
    share = share.clamp_(0, 1).to(moment)
    nearer = moment * (1 - share)[..., None, None]
    diagonal(nearer).copy_(sizes)
    return nearer, share
