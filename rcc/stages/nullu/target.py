"""Hold what one unit's low-rank pair is fitted to: the outputs wanted of it on its inputs, or a weight.

With calibration data: the dense model's outputs y on the inputs x that the unit really sees in the compressed model,
E‖y − V x − b‖² (`rcc.calibration.layer_fits`), whitened as in SVD-LLM (Wang et al. 2024, arXiv:2403.07378). Without:
the weight itself, ‖W − V‖², which is the same with E[x xᵀ] = I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from rcc.calibration.layer_fits import LayerFit
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.ops.factorise import Svd, factor_pair
from rcc.ops.quadratic import Quadratic
from rcc.ops.sparse_low_rank import beside_sparse, sparse_plus_low_rank
from rcc.ops.subspace import project_out
from rcc.ops.whitened import whitened

NEAR = 1e-3
"""How much staying near the current weight counts, as a share of the mean E[x²], where that makes H definite."""
WIDEST_IN_DOUBLE = 1024


class Truncations(Protocol):
    """The best weights of every rank. values: (k,) descending, of which rank r keeps the first r."""

    @property
    def values(self) -> Tensor: ...

    def pair(self, rank: int, factors: str = "balanced") -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class OfSvd:
    """The truncations of a plain SVD."""

    svd: Svd

    @property
    def values(self) -> Tensor:
        return self.svd.values

    def pair(self, rank: int, factors: str = "balanced") -> tuple[Tensor, Tensor]:
        return factor_pair(self.svd, rank, factors)


@dataclass(frozen=True)
class Target:
    """A unit, its form as it stands, and what a new form of it is to reproduce.

    form: folded, so without a scale.
    problem: the objective, or None for the plain SVD of `form`.
    svd: that SVD.
    fit: where the problem comes from calibration data.
    sparse: S (out, in) that stays as it is beside the pair.
    directions: orthonormal rows (k, out) that the outputs are to be free of.
    note: why the metric is plain, where calibration was asked for.
    """

    unit: Unit
    form: Form
    problem: Quadratic | None = None
    svd: Svd | None = None
    fit: LayerFit | None = None
    sparse: Tensor | None = None
    directions: Tensor | None = None
    note: str = ""

    @cached_property
    def truncations(self) -> Truncations:
        """Of what S leaves of the target."""
        if self.problem is None:
            assert self.svd is not None
            return OfSvd(self.svd)
        if self.sparse is None:
            return whitened(self.problem)
        return beside_sparse(self.problem, self.sparse)

    @property
    def energy(self) -> float:
        """E‖y‖², or ‖W‖²: what errors are relative to."""
        if self.problem is None:
            return float(self.truncations.values.double().square().sum())
        return float(self.problem.energy.sum())

    def relative_error(self, form: Form, kept: float) -> float:
        """√(E‖y − V x − b‖² / E‖y‖²) of a new form, the staying near of the fit counted in; of the plain SVD,
        the one that follows from the energy kept."""
        return math.sqrt(max(0.0, 1 - kept) if self.problem is None else self.problem.relative_error(form.dense()))

    def truncated(self, rank: int, factors: str) -> Form:
        """S, where there is one, and the pair of that rank, in the dtype stored now.

        The bias is the best one on average where there are calibration data, and else as it is.
        """
        stored = next(matrix for _, matrix in self.form.matrices())
        left, right = (factor.to(stored.device, stored.dtype) for factor in self.truncations.pair(rank, factors))
        sparse = None if self.sparse is None else self.sparse.to(stored.device, stored.dtype)
        kept = sparse is not None and sparse is self.form.sparse
        step = self.form.sparse_step if kept else None
        form = Form(sparse=sparse, left=left, right=right, bias=self.form.bias, sparse_step=step)
        form = form if self.fit is None else self.fit.settled(form)
        if self.directions is None or form.bias is None:
            return form
        return replace(form, bias=project_out(form.bias[:, None], self.directions)[:, 0])

    def with_sparse(self, rank: int, keep: int) -> Target:
        """The same with an S of `keep` non-zeros that is best beside a pair of that rank (OATS, Zhang & Papyan
        2024, arXiv:2409.13652)."""
        assert self.problem is not None
        sparse, _, _ = sparse_plus_low_rank(self.problem, rank, keep)
        return replace(self, sparse=sparse)


def to_outputs(fit: LayerFit, near: Tensor, directions: Tensor | None = None) -> Quadratic | None:
    """E‖y − V x − b‖², kept near the weight `near` (out, in), or None where the inputs tell nothing.

    Args:
        directions: orthonormal rows (k, out) that the wanted outputs are to be free of, as `near` already is.

    Damped by `NEAR`, and by ten times as much for as long as that leaves H indefinite.
    """
    if not fit.varies:
        return None
    damped = fit.objective().to(working_dtype(near.shape[1])).definite(near, NEAR)
    return damped if directions is None else _free_of(damped, directions)


def to_weight(weight: Tensor) -> Quadratic:
    """‖W − V‖², of a weight (out, in)."""
    inputs = weight.shape[1]
    return Quadratic.around(weight, torch.eye(inputs, dtype=working_dtype(inputs), device=weight.device))


def working_dtype(inputs: int) -> torch.dtype:
    """float64 up to `WIDEST_IN_DOUBLE` inputs, beyond which float32 saves memory and time."""
    return torch.float64 if inputs <= WIDEST_IN_DOUBLE else torch.float32


def note_on_samples(fit: LayerFit, rank: int) -> str:
    """What a user should know before relying on a pair of that rank; empty where all is well."""
    needed = rank + fit.has_bias
    if fit.inputs.samples >= needed:
        return fit.note
    return (
        f"{fit.inputs.samples} rows of calibration inputs for rank {rank}: at least {needed} are needed, and what they"
        " do not tell stays near the current weight. Give more calibration data (data.calibration) or ask for less rank"
    )


def _free_of(problem: Quadratic, directions: Tensor) -> Quadratic:
    """The same objective for P y in the place of y, P = I − Dᵀ D, with the P-less part of its minimum unchanged.

    The energy of P y is not known from moments of x and y alone: what no weight can reproduce of y, E‖y − W* x‖², is
    counted in full, so that it is an upper bound, and exact where the inputs explain the outputs.
    """
    best, cross = problem.solution, project_out(problem.cross, directions)
    unexplained = problem.energy - (problem.cross * best).sum(1, dtype=torch.float64)
    explained = (cross * project_out(best, directions)).sum(1, dtype=torch.float64)
    return Quadratic(problem.moment, cross, unexplained.clamp_min(0) + explained)
