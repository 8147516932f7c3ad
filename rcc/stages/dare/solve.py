"""Prune layers by solving for what they keep: which values stay, and what they must be for the layer to give the dense
model's outputs, or those it gave before, on the inputs that it really sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.layer_fits import LayerFit
from rcc.errors import Problems
from rcc.layers.form import MATRICES, Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.activation import activation_score
from rcc.ops.admm import admm_prune
from rcc.ops.groups import for_rows
from rcc.ops.obs import obs_prune
from rcc.ops.patterns import pattern_count
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit
from rcc.ops.select import count_selected
from rcc.stages.base import Stage, StageContext, naming
from rcc.stages.layerwise import layerwise

SOLVERS = ("none", "admm", "obs")
TARGETS = ("dense", "own")
WIDE = 512
"""Layers of more inputs than this are solved in float32, smaller ones in float64."""
DAMPING, PAIR_DAMPING = 0.01, 1e-3
"""Share of the mean of diag H that pulls towards the weight there is: for S alone, and where there is a pair U V."""
Pattern = tuple[int, int] | None


class Solver:
    """Prunes one layer after the other by 'admm' or 'obs', to a number of zeros for each.

    Args:
        method: of `SOLVERS`, not 'none'.
        iterations: of ADMM, over all of which its mask shrinks; least squares on the support follow.
        scope: 'row' or 'layer', see `admm_prune`.
        pattern: (n, m) to keep n of every m consecutive inputs.
        target: what a layer is to give: 'dense', the dense model's outputs; 'own', those of its weight before, as
            SparseGPT has it, for which one forward is enough.
        refit: iterations of conjugate gradients on the support that was found; 0 leaves the values as the method does.
    """

    def __init__(
        self, method: str, iterations: int, scope: str, pattern: Pattern, target: str = "dense", refit: int = 6
    ) -> None:
        self.method, self.iterations, self.scope, self.pattern = method, iterations, scope, pattern
        self.target, self.refit = target, refit

    def check(self, who: str, units: Sequence[Unit]) -> None:
        """Whether it can be done with these units.

        Raises:
            UserError: layers held as factors, which 'obs' does not prune, and matrices of a width that m of the
                pattern does not divide; all of them by name.
        """
        problems = Problems(who)
        if self.method == "obs":
            paired = [unit.name for unit in units if unit.summing and unit.read().left is not None]
            problems.check(
                not paired,
                f"solver=obs prunes a whole weight, and these layers are held as factors: {', '.join(paired)}. Take"
                " solver=admm, or put this stage before the one that factorises.",
            )
        if self.pattern is not None:
            n, m = self.pattern
            odd = [
                f"{unit.name} ({matrix.shape[0]} x {matrix.shape[1]})"
                for unit in units
                for _, matrix in unit.read().matrices()
                if matrix.shape[1] % m
            ]
            problems.check(
                not odd,
                f"pattern={n}:{m} needs matrices of a width divisible by {m}, which these are not: {', '.join(odd)}."
                " Leave them out by exclude=, or take another pattern.",
            )
        problems.done()

    def run(
        self,
        stage: Stage,
        model: Model,
        units: Sequence[Unit],
        zeros: Mapping[str, int],
        context: StageContext,
        mask: Callable[[Unit], None],
    ) -> dict[str, dict[str, Any]]:
        """Prune `units`, those by `mask` that there is nothing to solve for; returns facts of each by name.

        The order is that of `layerwise`: what cannot be solved goes first, so that the layers after it make up for it.
        """
        facts: dict[str, dict[str, Any]] = {}
        for step in layerwise(model, context, units, target=self.target):
            unit = step.unit
            with naming(stage, unit):
                if isinstance(step, LayerFit):
                    facts[unit.name] = self._solve(step, zeros[unit.name])
                else:
                    mask(unit)
                    facts[unit.name] = {"note": f"pruned by magnitude: {step.reason}"}
            context.progress(len(facts), len(units), f"layers ({unit.name})")
        return facts

    def _solve(self, fit: LayerFit, zeros: int) -> dict[str, Any]:
        form = fit.unit.read().folded()
        dtype = torch.float32 if fit.unit.shape[1] > WIDE else torch.float64
        weight = form.dense().to(dtype)
        problem, damping = fit.objective().to(dtype), DAMPING if form.left is None else PAIR_DAMPING
        before = 0.0 if self.target == "own" else fit.objective().relative_error(weight)
        try:
            pruned = self._pruned(form, problem.damped(weight, damping), zeros)
        except torch.linalg.LinAlgError:
            pruned = self._pruned(form, problem.definite(weight, 10 * damping), zeros)
        fit.unit.write(fit.settled(pruned))
        facts: dict[str, Any] = {
            "output_error_before": before,
            "output_error": fit.objective().relative_error(pruned.dense()),
        }
        return facts | ({"note": fit.note} if fit.note else {})

    def _pruned(self, form: Form, problem: Quadratic, zeros: int) -> Form:
        """S first, to what the pair leaves; then V given U, and U given V."""
        keep = self._shared(form, problem, zeros)
        stored = form.sparse if form.sparse is not None else form.left
        assert stored is not None
        dtype = problem.moment.dtype
        sparse, left, right = (
            None if part is None else part.to(dtype) for part in (form.sparse, form.left, form.right)
        )
        if sparse is not None:
            target = problem.cross if left is None or right is None else problem.cross - left @ (right @ problem.moment)
            sparse = self._prune(replace(problem, cross=target), keep["sparse"], sparse, self.target == "own")
        if left is not None and right is not None:
            cross = problem.cross if sparse is None else problem.cross - sparse @ problem.moment
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
        # Where U is all zero there is nothing to solve: the identity keeps it from dividing by zero.
        coupling.diagonal().add_(PAIR_DAMPING * float(coupling.diagonal().mean()) or 1.0)
        given = left.T @ cross
        norms = coupling.diagonal().sqrt()[:, None]
        alone = torch.linalg.solve(coupling, given) * norms
        chosen = self._support(Quadratic(problem.moment, alone, problem.energy), keep, right * norms)
        wanted = Quadratic(problem.moment, given, problem.energy)
        return refit(wanted, chosen != 0, start=chosen / norms, coupling=coupling, iterations=self.refit)

    def _prune(self, problem: Quadratic, keep: int, start: Tensor, least: bool = False) -> Tensor:
        """`least`: whether `start` is known to be the dense minimum."""
        chosen = self._support(problem, keep, start, least)
        return refit(problem, chosen != 0, start=chosen, iterations=self.refit) if self.refit else chosen

    def _support(self, problem: Quadratic, keep: int, start: Tensor, least: bool = False) -> Tensor:
        if self.method == "obs":
            return obs_prune(problem, keep, pattern=self.pattern, solution=start if least else None)
        steps = self.iterations
        return admm_prune(problem, keep, start, iterations=steps, growing=steps, scope=self.scope, pattern=self.pattern)

    def _shared(self, form: Form, problem: Quadratic, zeros: int) -> dict[str, int]:
        """How many values each matrix keeps: by what every value contributes to the layer's output."""
        parts = dict(form.matrices())
        if self.pattern is not None:
            n, m = self.pattern
            shapes = {name: (part.shape[0], part.shape[1]) for name, part in parts.items()}
            return {name: pattern_count(shape, n, m) for name, shape in shapes.items()}
        diagonal = for_rows(problem.diagonal, len(problem.cross))
        scores = {name: activation_score(part, diagonal) for name, part in parts.items() if name == "sparse"}
        if form.left is not None and form.right is not None:
            right = form.right.to(problem.moment.dtype)
            inner = ((right @ problem.moment) * right).sum(1).clamp_min(0)
            scores["left"] = activation_score(form.left, inner)
            scores["right"] = activation_score(form.right, diagonal, torch.linalg.vector_norm(form.left, dim=0))
        gone = count_selected(list(scores.values()), zeros)
        return {name: score.numel() - lost for (name, score), lost in zip(scores.items(), gone, strict=True)}
