"""Nullu: low-rank pairs by truncated SVD, and projection out of a subspace found from paired features.

The method, its sources and where it departs from the specification: docs/method/nullu.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.paired import PairedFeatures
from rcc.errors import UserError
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.factorise import kept_energy
from rcc.stages.base import DID_NOT_PAY, StageContext, StageReport, UnitPlan, bytes_of, naming
from rcc.stages.nullu.decomposition import LayerDecompositions
from rcc.stages.nullu.options import NulluOptions
from rcc.stages.nullu.plan import no_gain, plan_truncation
from rcc.stages.nullu.projection import matrix_bytes, projected
from rcc.stages.nullu.rank_budget import BOUNDS, RankRule, Spectrum, allocated
from rcc.stages.nullu.target import Target, note_on_samples
from rcc.stages.nullu.truncation import TruncationPass, nonzeros_kept


class NulluProjector(LayerDecompositions):
    """Replaces each weight by the low-rank pair U V that is nearest to what is wanted, where that takes fewer bytes.

    Args: see `ConfiguredStage`; the options are those of `NulluOptions`.

    By hand: `NulluProjector(model, …)`, then the methods on one layer, `decompose_layer(name, weight)` first.
    """

    method = "nullu"
    projects = True
    strength_option = "rank_reduction_ratio"
    no_strength = "rank_reduction_ratio is null"
    options_type = NulluOptions

    @property
    def rule(self) -> RankRule:
        return RankRule(self.share, self.options.energy_threshold, self.options.of, self.options.sparse_share)

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        return [plan_truncation(unit, self.rule, itemsize, self.options.allocation) for unit in units]

    @torch.no_grad()
    def apply(self, model: Model, context: StageContext) -> StageReport:
        self.forget()
        self.model = model
        taken = self.resolved_options(context)
        self._require(taken, context)
        metric = taken.metric
        chosen, skipped = self.choose(model)
        report = StageReport(skipped=skipped)
        bytes_before = sum(bytes_of(unit, context.itemsize) for unit in chosen)
        directions = self._project(chosen, model, context, report)
        way = TruncationPass(self, metric, self.rule, model, context, directions, self.compute_svd_decomposition)
        ranks = self._allocated(way, chosen) if self.options.allocation == "spectra" else {}
        for done, step in enumerate(way.steps(chosen)):
            context.progress(done, len(chosen), f"layers ({step.unit.name})")
            self._truncate(way.target(step), step.unit, context.itemsize, report, ranks.get(step.unit.name))
        bytes_after = sum(bytes_of(unit, context.itemsize) for unit in chosen)
        report.facts |= (
            {"metric": metric} | self.chosen(taken, context) | self._facts(report, bytes_before, bytes_after)
        )
        context.progress(len(chosen), len(chosen), "layers")
        return report

    def _require(self, taken: NulluOptions, context: StageContext) -> None:
        if taken.metric == "calibration" and not context.calibration:
            raise UserError(
                f"{self.who}: metric=calibration compares outputs on calibration data, and"
                " there is none. Choose data with a calibration split (from Python:"
                " StageContext(calibration=batches)), or metric=plain."
            )
        if taken.metric == "plain" and taken.of == "residual" and context.reference is None:
            raise UserError(
                f"{self.who}: of=residual truncates what the sparse part leaves of the dense weights, and they are not"
                " known (from Python: StageContext(reference=...)). Take of=weight, or metric=calibration."
            )

    def _project(
        self, chosen: Sequence[Unit], model: Model, context: StageContext, report: StageReport
    ) -> dict[str, Tensor]:
        """Project the units that the paired features name; returns the directions (k, out) by name."""
        if self.options.paired_features is None:
            return {}
        paired = PairedFeatures(self.options.paired_features, model.units(), self.options.paired_rank)
        found = {}
        for unit in chosen:
            if unit.name in paired.names:
                with naming(self, unit):
                    found[unit.name] = paired.directions(unit)
                    unit.write(projected(unit.read(), found[unit.name], unit.factorable, context.itemsize))
                report.touched[unit.name] = {"projected_out": self.options.paired_rank}
        report.facts["paired_features_not_chosen"] = sorted(paired.names - {unit.name for unit in chosen})
        return found

    def _allocated(self, way: TruncationPass, units: Sequence[Unit]) -> dict[str, int]:
        """The rank of each unit under the common budget, from the spectra of the model as it stands."""
        found: list[Spectrum] = []
        for spectrum in way.spectra(units):
            found.append(spectrum)
            way.context.progress(len(found), len(units), f"spectra ({spectrum.name})")
        try:
            return allocated(found, self.rule, self.options.scope)
        except ValueError as error:
            raise UserError(
                f"{self.who}: allocation=spectra at rank_reduction_ratio={self.options.rank_reduction_ratio}, in"
                f" parameters: {error}. Take a lower ratio, or allocation=uniform."
            ) from error

    def _truncate(
        self, target: Target | str, unit: Unit, itemsize: int, report: StageReport, granted: int | None
    ) -> None:
        """Write the new form of the rank that the rules choose, or leave the unit and note why."""
        if isinstance(target, str):
            report.skip(unit, target)
            return
        with naming(self, unit):
            self._write_truncated(target, itemsize, report, granted)

    def _write_truncated(self, target: Target, itemsize: int, report: StageReport, granted: int | None) -> None:
        unit, form = target.unit, target.form
        chosen = self.rule.rank(target.truncations.values, unit.shape, nonzeros_kept(self.rule, form), granted)
        if granted is not None and chosen.rank == min(unit.shape):
            report.skip(unit, "by the spectra it is best left as it is")
            return
        if self.options.of == "joint":
            target = target.with_sparse(chosen.rank, self.rule.kept_beside(unit.shape, 0))
        fitted = target.truncated(chosen.rank, self.options.factors)
        now, would = matrix_bytes(form, itemsize), matrix_bytes(fitted, itemsize)
        again = self.options.refit and target.fit is not None and form.left is not None
        # Beside an S that stays nothing gets smaller: a pair is worth its bytes while the whole is below a dense layer.
        grows = self.options.of == "residual" and (form.left is None or again)
        limit = unit.numel * itemsize if grows else now
        if would > limit or (would == limit and not again):
            report.skip(unit, f"rank {chosen.rank} (bound by {chosen.bound}): {no_gain(would, limit)}")
            report.facts[DID_NOT_PAY] = report.facts.get(DID_NOT_PAY, 0) + 1
            return
        unit.write(fitted)
        self.applied[unit.name] = unit
        self.original_ranks[unit.name], self.selected_ranks[unit.name] = min(unit.shape), chosen.rank
        kept = kept_energy(target.truncations.values, chosen.rank)
        report.touched.setdefault(unit.name, {}).update(
            rank=chosen.rank,
            bound=chosen.bound,
            energy_preserved=kept,
            relative_error=target.relative_error(fitted, kept),
            compression_ratio=1 - fitted.stored / unit.numel,
            full_rank=min(unit.shape),
            bytes_before=now,
            bytes_after=would,
            **self._calibrated(target, chosen.rank),
        )

    def _calibrated(self, target: Target, rank: int) -> dict[str, Any]:
        """What the pair was fitted to, where the metric is that of calibration data."""
        if target.fit is None and not target.note:
            return {}
        if target.fit is None:
            return {"metric": "plain", "note": f"truncated in the plain metric: {target.note}"}
        note = note_on_samples(target.fit, rank)
        return {"metric": "calibration", "samples": target.fit.inputs.samples, **({"note": note} if note else {})}

    def _facts(self, report: StageReport, before: int, after: int) -> dict[str, Any]:
        made = [facts for facts in report.touched.values() if "rank" in facts]
        bounds = [facts["bound"] for facts in made]
        mean = math.fsum(facts["energy_preserved"] for facts in made) / max(1, len(made))
        return {
            "factorised": len(made),
            **{f"bound_by_{rule}": bounds.count(rule) for rule in BOUNDS},
            "mean_energy_kept": mean if made else None,
            "bytes_before": before,
            "bytes_after": after,
        }
