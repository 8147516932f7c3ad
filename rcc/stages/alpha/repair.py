"""Closed-form repair: layer after layer, better values and a better bias towards the dense model's outputs.

Each layer is fitted to the outputs of the dense model on the inputs that the compressed model gives it, with the layers
before it already repaired. Formulas, sources and figures: docs/method/alpha.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.layer_fits import LayerFit
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.null_space import ENERGY
from rcc.ops.quadratic import DAMPING, Quadratic
from rcc.ops.refit import best_bias
from rcc.stages.alpha.repair_fits import moved_in_null_space, refitted, scaled
from rcc.stages.base import StageContext, StageReport
from rcc.stages.layerwise import Unfitted, layerwise

WAYS = ("none", "scales", "least_squares", "null_space")
WIDEST_EXACT = 1024
"""Inputs up to which moments are summed in float64; wider layers take float32, at half the memory and time."""

LEAST_GAIN = 1e-7
"""The share of a layer's output, in energy, below which a gain is rounding: storing it in 16 bits moves it more."""


@dataclass(frozen=True)
class Repair:
    """What is solved for: nothing, one factor a row, all surviving values, or a change that some inputs do not see.

    way: one of `WAYS`. rounds: how often the parts of S + U V take turns in 'least_squares'. damping: λ over the mean
    of diag H, what holds values near those there are. energy: the share of the preserved inputs that the null space of
    'null_space' may hold.
    """

    way: str
    rounds: int = 1
    damping: float = DAMPING
    energy: float = ENERGY

    @torch.no_grad()
    def apply(self, model: Model, units: Sequence[Unit], context: StageContext, report: StageReport) -> dict[str, Any]:
        """Repair `units` in place, in the order in which the model calls them; returns facts of the whole.

        Every unit gets, in `report.touched`, 'error_before' and 'error_after' (see `relative_error`), and a 'note'
        where it kept its values, or all it had, or where the fit rests on few inputs.

        Raises:
            WorkError: a unit's inputs or the dense model's outputs hold a NaN or an infinity.
        """
        errors: list[tuple[float, float]] = []
        kept: list[str] = []
        dtype = torch.float64 if all(unit.shape[1] <= WIDEST_EXACT for unit in units) else torch.float32
        for done, step in enumerate(layerwise(model, context, units, dtype=dtype, rows=self.way == "null_space")):
            context.progress(done, len(units), f"layers ({step.unit.name})")
            facts = report.touched.setdefault(step.unit.name, {})
            if isinstance(step, Unfitted):
                kept.append(step.unit.name)
                facts["note"] = f"not repaired: {step.reason}"
                continue
            before, after, note = self._at(step)
            errors.append((before, after))
            facts |= {"error_before": before, "error_after": after} | ({"note": note} if note else {})
            if not after < before:
                kept.append(step.unit.name)
        context.progress(len(units), len(units), "layers")
        count = max(1, len(errors))
        return {
            "repair": self.way,
            "repaired": len(units) - len(kept),
            "not_repaired": kept,
            "mean_error_before": sum(before for before, _ in errors) / count,
            "mean_error_after": sum(after for _, after in errors) / count,
        }

    def _at(self, fit: LayerFit) -> tuple[float, float, str]:
        """Repair one unit; returns its relative errors before and after, and what is to be said of it."""
        form = fit.unit.read().folded()
        problem = fit.objective()
        before = relative_error(fit, problem, form)
        notes = [fit.note]
        try:
            better = self._better(fit, problem, form)
        except (ValueError, torch.linalg.LinAlgError) as error:
            notes.append(f"kept its values: {error}")
            better = fit.settled(form)
        if form.quantised and self.way != "scales":
            notes.append("kept its values, which are quantised: only the bias is settled")
        after = relative_error(fit, problem, better)
        if before - after > LEAST_GAIN:
            fit.unit.write(better)
        else:
            after = before
            notes.append(f"kept as it was: no {_NAMES[self.way]} lowers its error")
        return before, after, "; ".join(filter(None, notes))

    def _better(self, fit: LayerFit, problem: Quadratic, form: Form) -> Form:
        if self.way == "null_space" and not form.quantised:
            if problem.groups is not None:
                raise ValueError("each group of a grouped convolution would need a null space of its own")
            fixed, preserved = _with_bias_fixed(fit, form), _reproduced(fit, form)
            return moved_in_null_space(form, fixed, preserved, self.energy, self.damping)
        if self.way == "scales":
            form = scaled(form, problem.damped(form.dense(), self.damping))
        elif not form.quantised:
            form = refitted(form, problem.damped(form.dense(), self.damping), self.rounds)
        return fit.settled(form)


_NAMES = {"scales": "scale", "least_squares": "least-squares fit", "null_space": "change in the null space"}


def relative_error(fit: LayerFit, problem: Quadratic, form: Form) -> float:
    """E‖y − W x − b‖² over E‖y − E y‖² (over E‖y‖² where the unit has no bias); 0 where there is nothing to tell.

    problem: the fit's `objective`, which leaves out what a wrong bias costs; that is added here.
    """
    weight = form.dense()
    error = problem.error(weight)
    if form.bias is not None:
        missed = best_bias(fit.mean, fit.inputs.mean, weight.to(fit.mean)) - form.bias.to(fit.mean)
        error = error + missed.double().square()
    total = float(problem.energy.sum())
    return float(error.sum()) / total if total > 0 else 0.0


def _with_bias_fixed(fit: LayerFit, form: Form) -> Quadratic:
    """E‖y − b − V x‖² with the bias as it is: preserved inputs all see it, so that a null space cannot hold it."""
    if form.bias is None:
        return fit.objective()
    bias = form.bias.to(fit.mean)
    energy = fit.energy - (2 * bias * fit.mean - bias.square()).double()
    return Quadratic(fit.inputs.moment, fit.cross - torch.outer(bias, fit.inputs.mean), energy)


def _reproduced(fit: LayerFit, form: Form) -> Tensor:
    """E[x xᵀ] over that half of the inputs whose outputs the layer already gives best: least ‖y − ŷ‖² / ‖y‖²."""
    weight, bias = form.dense(), 0.0 if form.bias is None else form.bias
    shares = []
    for given, wanted in fit.rows():
        missed = (wanted - given @ weight.T - bias).square().sum(1)
        shares.append((missed / wanted.square().sum(1)).nan_to_num(0.0))
    median = torch.cat(shares).median()
    moment = torch.zeros_like(fit.inputs.moment)
    count = 0
    for (given, _), share in zip(fit.rows(), shares, strict=True):
        rows = given[share <= median].to(moment)
        moment.addmm_(rows.T, rows)
        count += len(rows)
    return moment / count
