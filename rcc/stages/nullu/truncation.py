"""One pass over a model's units: each with what its low-rank pair is fitted to, in the order of the model's calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcc.calibration.layer_fits import Site, sites
from rcc.calibration.row_fit import FITTED
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.factorise import Svd
from rcc.ops.subspace import project_out
from rcc.stages.base import Stage, StageContext, naming
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

    def targets(self, units: Sequence[Unit]) -> Generator[tuple[Unit, Target | str], None, None]:
        """Each unit with its target, or with why it is left as it is.

        A unit may be written while the iterator waits; later ones then see its new outputs. Units that have no
        calibrated inputs by their kind come first, and those that no calibration batch reached last. The moments
        of one unit are in memory at a time, if whoever asks keeps no target.
        """
        coming: dict[str, Unit] = {}
        if self.metric == "calibration":
            coming = {unit.name: unit for unit in units if unit.kind in FITTED and unit.factorable}
        yield from ((unit, self._target(unit, None)) for unit in units if unit.name not in coming)
        if not coming:
            return
        fitted = list(coming.values())
        dtype = working_dtype(max(unit.shape[1] for unit in fitted))
        with self.context.dense_beside(self.model) as dense:
            for site in sites(self.model, dense, fitted, self.context.calibration or (), dtype):
                unit = coming.pop(site.unit.name)
                target = self._target(unit, site)
                del site
                yield unit, target
                del target
        yield from ((unit, self._target(unit, None)) for unit in coming.values())

    def spectra(self, units: Sequence[Unit]) -> Iterator[Spectrum]:
        """What each unit's pair could keep; nothing is written, so that every unit sees the model as it stands."""
        for unit, target in self.targets(units):
            if isinstance(target, Target):
                with naming(self.stage, unit):
                    values = target.truncations.values.double()
                    # A pair never gets a larger rank than it has: what it could gain is not on offer.
                    offered = unit.numel if target.form.sparse is not None else target.form.rank
                    kept = nonzeros_kept(self.rule, target.form)
                    spectrum = Spectrum(
                        unit.name, unit.tower, unit.shape, kept, values[:offered].clone(), target.energy
                    )
                del target
                yield spectrum

    def _target(self, unit: Unit, site: Site | None) -> Target | str:
        if not unit.factorable:
            return f"{'a norm' if unit.kind == 'norm' else 'a grouped convolution'} holds no low-rank pair"
        form = unit.read().folded()
        kept = nonzeros_kept(self.rule, form)
        if form.nonzeros == 0 and self.rule.of != "residual":
            return "every value is zero: there is nothing to factorise"
        if self.rule.most(form.shape, kept) == 0:
            return over_the_share(self.rule, form.shape, kept)
        with naming(self.stage, unit):
            return self._fitted(unit, form, site)

    def _fitted(self, unit: Unit, form: Form, site: Site | None) -> Target | str:
        directions = self.directions.get(unit.name)
        sparse = form.sparse if self.rule.of == "residual" else None
        note = ""
        if site is not None:
            problem = to_outputs(site, form.dense(), directions)
            if problem is not None:
                return Target(unit, form, problem, site=site, sparse=sparse, directions=directions)
            note = site.note
        elif self.metric == "calibration":
            note = "no calibration batch reached it" if unit.kind in FITTED else "its kind has no moments"
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
