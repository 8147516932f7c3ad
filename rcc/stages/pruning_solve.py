"""Pruning that solves for what is kept: in every layer the values that stay, and what they must be then, so that the
layer gives the dense model's outputs on the inputs that it really sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.sites import Site, sites
from rcc.errors import UserError
from rcc.layers.form import MATRICES, Form
from rcc.layers.units import Unit
from rcc.ops.activation import activation_score
from rcc.ops.admm import admm_prune
from rcc.ops.obs import obs_prune
from rcc.ops.patterns import pattern_count
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit
from rcc.ops.select import count_selected
from rcc.stages.base import Compressible, Stage, StageContext, naming

SOLVERS = ("none", "admm", "obs")
DAMPING, PAIR_DAMPING = 0.01, 1e-3
"""Share of the mean of diag H that pulls towards the weight there is: for S alone, and where there is a pair U V."""
REFIT = 6
"""Iterations of conjugate gradients on the support that was found."""

Pattern = tuple[int, int] | None


class Solver:
    """Prunes one layer after the other by 'admm' or 'obs', to a number of zeros for each.

    Args:
        method: of `SOLVERS`, not 'none'.
        iterations: of ADMM, over all of which its mask shrinks; least squares on the support follow.
        scope: 'row' or 'layer', see `admm_prune`.
        pattern: (n, m) to keep n of every m consecutive inputs.
    """

    def __init__(self, method: str, iterations: int, scope: str, pattern: Pattern) -> None:
        self.method, self.iterations, self.scope, self.pattern = method, iterations, scope, pattern

    def run(
        self, stage: Stage, model: Compressible, units: Sequence[Unit], zeros: Mapping[str, int], context: StageContext
    ) -> dict[str, dict[str, Any]]:
        """Prune those of `units` that the calibration batches reach; returns the facts of each that was, by name."""
        facts: dict[str, dict[str, Any]] = {}
        with context.dense_beside(model) as dense:
            for site in sites(model, dense, units, context.calibration or ()):
                if site.fired:
                    with naming(stage, site.unit):
                        facts[site.unit.name] = self._solve(site, zeros[site.unit.name])
                context.progress(len(facts), len(units), f"layers ({site.unit.name})")
        return facts

    def _solve(self, site: Site, zeros: int) -> dict[str, Any]:
        form = site.unit.read().folded()
        weight = form.dense().float()
        problem = site.damped(weight, DAMPING if form.left is None else PAIR_DAMPING)
        before = site.objective().relative_error(weight)
        pruned = self._pruned(form, problem, zeros)
        site.unit.write(site.settled(pruned))
        facts: dict[str, Any] = {
            "output_error_before": before,
            "output_error": site.objective().relative_error(pruned.dense()),
        }
        return facts | ({"note": site.note} if site.note else {})

    def _pruned(self, form: Form, problem: Quadratic, zeros: int) -> Form:
        """S first, to what the pair leaves; then V given U, and U given V."""
        keep = self._shared(form, problem, zeros)
        stored = form.sparse if form.sparse is not None else form.left
        assert stored is not None
        dtype = problem.moment.dtype
        sparse, left, right = (
            None if part is None else part.to(dtype) for part in (form.sparse, form.left, form.right)
        )
        cross = problem.cross
        if sparse is not None:
            target = problem.cross if left is None or right is None else problem.cross - left @ (right @ problem.moment)
            sparse = self._prune(replace(problem, cross=target), keep["sparse"], sparse)
            cross = problem.cross - sparse @ problem.moment
        if left is not None and right is not None:
            if self.method == "obs":
                raise UserError(
                    "solver=obs prunes a whole weight, and this layer is held as factors: take solver=admm."
                )
            right = self._prune_right(problem, cross, keep["right"], left, right)
            inner = right @ problem.moment @ right.T
            inner.diagonal().add_(PAIR_DAMPING * inner.diagonal().mean())
            left = self._prune(Quadratic(inner, cross @ right.T, problem.energy), keep["left"], left)
        pruned = zip(MATRICES, (sparse, left, right), strict=True)
        return replace(form, **{name: None if part is None else part.to(stored) for name, part in pruned})

    def _prune_right(self, problem: Quadratic, cross: Tensor, keep: int, left: Tensor, right: Tensor) -> Tensor:
        """V given U. Its support as if the columns of U were orthogonal, each row of V by itself with the norm of its
        column: coupling them within ADMM measured no better for three to ten times the time. Its values with them."""
        coupling = left.T @ left
        coupling.diagonal().add_(PAIR_DAMPING * coupling.diagonal().mean())
        given = left.T @ cross
        norms = coupling.diagonal().sqrt()[:, None]
        alone = torch.linalg.solve(coupling, given) * norms
        chosen = self._support(Quadratic(problem.moment, alone, problem.energy), keep, right * norms)
        wanted = Quadratic(problem.moment, given, problem.energy)
        return refit(wanted, chosen != 0, start=chosen / norms, coupling=coupling, iterations=REFIT)

    def _prune(self, problem: Quadratic, keep: int, start: Tensor) -> Tensor:
        chosen = self._support(problem, keep, start)
        return refit(problem, chosen != 0, start=chosen, iterations=REFIT)

    def _support(self, problem: Quadratic, keep: int, start: Tensor) -> Tensor:
        if self.method == "obs":
            return obs_prune(problem, keep, pattern=self.pattern)
        steps = self.iterations
        return admm_prune(problem, keep, start, iterations=steps, growing=steps, scope=self.scope, pattern=self.pattern)

    def _shared(self, form: Form, problem: Quadratic, zeros: int) -> dict[str, int]:
        """How many values each matrix keeps: by what every value contributes to the layer's output."""
        parts = dict(form.matrices())
        if self.pattern is not None:
            n, m = self.pattern
            shapes = {name: (part.shape[0], part.shape[1]) for name, part in parts.items()}
            return {name: pattern_count(shape, n, m) for name, shape in shapes.items()}
        diagonal = problem.moment.diagonal()
        scores = {name: activation_score(part, diagonal) for name, part in parts.items() if name == "sparse"}
        if form.left is not None and form.right is not None:
            right = form.right.to(problem.moment.dtype)
            inner = ((right @ problem.moment) * right).sum(1).clamp_min(0)
            scores["left"] = activation_score(form.left, inner)
            scores["right"] = activation_score(form.right, diagonal, torch.linalg.vector_norm(form.left, dim=0))
        gone = count_selected(list(scores.values()), zeros)
        return {name: score.numel() - lost for (name, score), lost in zip(scores.items(), gone, strict=True)}
