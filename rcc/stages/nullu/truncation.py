"""Find what each unit's low-rank pair is fitted to, in one pass over the units in the order of the model's calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from rcc.calibration.layer_fits import LayerFit
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.factorise import Svd
from rcc.ops.subspace import project_out
from rcc.stages.base import Stage, StageContext, naming
from rcc.stages.layerwise import Unfitted, layerwise
from rcc.stages.nullu.plan import over_the_share
from rcc.stages.nullu.rank_budget import RankRule, Spectrum
from rcc.stages.nullu.target import Target, to_outputs, to_weight, working_dtype


@dataclass(frozen=True)
class TruncationPass:
    """A stage's way over the units of a model.

    metric: 'plain' or 'calibration'.
    directions: (k, out) by unit name: what its wanted outputs are to be free of, as its weight already is.
    decompose: the plain SVD of a form.
    """

    stage: Stage
    metric: str
    rule: RankRule
    model: Model
    context: StageContext
    directions: Mapping[str, Tensor]
    decompose: Callable[[Form], Svd]

    def steps(self, units: Sequence[Unit]) -> Iterator[LayerFit | Unfitted]:
        """Each unit with its statistics where the metric is that of calibration data; see `layerwise`."""
        if self.metric == "plain":
            return (Unfitted(unit, "") for unit in units)
        fitted = [unit for unit in units if unit.factorable]
        dtype = working_dtype(max((unit.shape[1] for unit in fitted if unit.summing), default=1))
        alone = (Unfitted(unit, "") for unit in units if not unit.factorable)
        return chain(alone, layerwise(self.model, self.context, fitted, dtype=dtype))

    def spectra(self, units: Sequence[Unit]) -> Iterator[Spectrum]:
        """What each unit's pair could keep; nothing is written, so that every unit sees the model as it stands."""
        for step in self.steps(units):
            spectrum = self._spectrum(step)
            if spectrum is not None:
                yield spectrum

    def _spectrum(self, step: LayerFit | Unfitted) -> Spectrum | None:
        target, unit = self.target(step), step.unit
        if isinstance(target, str):
            return None
        with naming(self.stage, unit):
            values = target.truncations.values.double()
            # A pair never gets a larger rank than it has: what it could gain is not on offer.
            offered = unit.numel if target.form.sparse is not None else target.form.rank
            kept = nonzeros_kept(self.rule, target.form)
            return Spectrum(unit.name, unit.tower, unit.shape, kept, values[:offered].clone(), target.energy)

    def target(self, step: LayerFit | Unfitted) -> Target | str:
        """What the pair of the unit is fitted to, or why it is left as it is."""
        unit = step.unit
        if not unit.factorable:
            return f"{'a norm' if unit.kind == 'norm' else 'a grouped convolution'} holds no low-rank pair"
        form = unit.read().folded()
        kept = nonzeros_kept(self.rule, form)
        if form.nonzeros == 0 and self.rule.of != "residual":
            return "every value is zero: there is nothing to factorise"
        if self.rule.most(form.shape, kept) == 0:
            return over_the_share(self.rule, form.shape, kept)
        with naming(self.stage, unit):
            return self._fitted(step, form)

    def _fitted(self, step: LayerFit | Unfitted, form: Form) -> Target | str:
        unit = step.unit
        directions = self.directions.get(unit.name)
        sparse = form.sparse if self.rule.of == "residual" else None
        if isinstance(step, Unfitted):
            note = step.reason
        else:
            problem = to_outputs(step, form.dense(), directions)
            if problem is not None:
                return Target(unit, form, problem, fit=step, sparse=sparse, directions=directions)
            note = step.note
        if self.rule.of == "weight":
            return Target(unit, form, svd=self.decompose(form), note=note)
        weight = form.dense()
        if self.rule.of == "residual":
            if self.context.reference is None:
                return f"{note}, and its dense weight is not known"
            weight = self.context.reference(unit.name).to(weight)
            weight = weight if directions is None else project_out(weight, directions)
        return Target(unit, form, to_weight(weight), sparse=sparse, note=note)


def nonzeros_kept(rule: RankRule, form: Form) -> int:
    """Non-zeros of the S that stays as it is: 0 where none does."""
    return int(torch.count_nonzero(form.sparse)) if rule.of == "residual" and form.sparse is not None else 0
