"""Nullu: low-rank pairs by truncated SVD, and projection out of a subspace found from paired features.

The method, its sources and where it departs from the specification: docs/method/nullu.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from rcc.calibration.moments import BUDGET, InputMoments, Moments
from rcc.calibration.paired import PairedFeatures
from rcc.errors import Problems, UserError
from rcc.layers.form import Form
from rcc.layers.selection import Selection
from rcc.layers.units import Unit
from rcc.ops.factorise import FACTORS, PRECISIONS, factor_pair, rank_by_share
from rcc.stages.base import (
    DID_NOT_PAY,
    Compressible,
    Stage,
    StageContext,
    StageReport,
    UnitPlan,
    bytes_of,
    naming,
    planned,
)
from rcc.stages.decomposition import LayerDecompositions
from rcc.stages.projection import matrix_bytes, projected
from rcc.stages.pruning_options import is_number

METRICS = ("plain", "calibration")


class NulluProjector(LayerDecompositions, Stage):
    """Replaces each weight by the low-rank pair U V that is nearest to it, where that takes fewer bytes.

    Args:
        rank_reduction_ratio: share of a weight's parameters to do without, in [0, 1): factors of rank r hold
            r (m + n) values, and at most 1 - ratio of m n are kept. None switches the rule off.
        energy_threshold: share of the squared singular values to keep, in (0, 1]. None switches the rule off.
            The smaller of the two ranks is taken, and the report says which rule bound.
        paired_features: a safetensors file with '<unit>.positive' and '<unit>.negative', (n, out) each: the
            units it names are first projected out of the leading directions of positive - negative.
        paired_rank: how many of these directions.
        precision: 'auto', 'float64' or 'float32': how the SVD is computed, see `ops.factorise.thin_svd`.
        factors: 'orthonormal' (singular values in U, rows of V orthonormal) or 'balanced' (half of them in
            each).
        metric: what 'nearest' means. 'plain': the weights, ‖W − U V‖. 'calibration': the outputs on the
            calibration data, ‖(W − U V) H^½‖; energy and orthonormal are then of that metric too.
        include, exclude, roles, towers: which units, see `Selection`.

    Raises:
        UserError: every option that is out of range, at once.
    """

    method = "nullu"
    strength_option = "rank_reduction_ratio"

    def __init__(
        self,
        rank_reduction_ratio: float | None = 0.75,
        energy_threshold: float | None = 0.95,
        paired_features: str | Path | None = None,
        paired_rank: int = 1,
        precision: str = "auto",
        factors: str = "balanced",
        metric: str = "plain",
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        towers: Sequence[str] | None = None,
    ) -> None:
        problems = Problems("stage 'nullu'")
        ratio, energy = rank_reduction_ratio, energy_threshold
        within = ratio is None or (is_number(ratio) and 0 <= ratio < 1)
        problems.check(within, f"rank_reduction_ratio is {ratio}; it must lie in [0, 1).")
        within = energy is None or (is_number(energy) and 0 < energy <= 1)
        problems.check(within, f"energy_threshold is {energy}; it must lie in (0, 1].")
        problems.check(
            ratio is not None or energy is not None,
            "rank_reduction_ratio and energy_threshold are both null; one of them must choose the rank.",
        )
        problems.check(
            paired_features is None or Path(paired_features).is_file(),
            f"paired_features: there is no file {paired_features}.",
        )
        whole = is_number(paired_rank) and isinstance(paired_rank, int)
        problems.check(
            whole and paired_rank >= 1, f"paired_rank is {paired_rank}; it must be a whole number from 1 up."
        )
        problems.choice("precision", precision, PRECISIONS)
        problems.choice("factors", factors, FACTORS)
        problems.choice("metric", metric, METRICS)
        problems.done()
        super().__init__(ratio, energy, precision)
        self.paired_features = paired_features
        self.paired_rank = paired_rank
        self.factors = factors
        self.metric = metric
        self.needs_calibration = metric == "calibration"
        self.selection = Selection(include, exclude, roles, towers)

    @property
    def strength(self) -> float | None:
        return self.rank_reduction_ratio

    def at(self, strength: float) -> Self:
        if self.rank_reduction_ratio is None:
            raise UserError("stage 'nullu': rank_reduction_ratio is null, so there is no strength to change.")
        if not (is_number(strength) and 0 <= strength < 1):
            raise UserError(f"stage 'nullu': strength {strength} is not a rank_reduction_ratio in [0, 1).")
        other = copy.copy(self)
        other.rank_reduction_ratio = strength
        other.forget()
        return other

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        return [self._planned(unit, itemsize) for unit in units]

    def _planned(self, unit: UnitPlan, itemsize: int) -> UnitPlan:
        if not unit.factorable:
            return planned(unit, "left as it is: holds no low-rank pair")
        if self.share is None:
            return planned(unit, "rank by energy: known only after the SVD; counted as it is")
        m, n = unit.shape
        ranks = [max(1, rank_by_share(unit.shape, self.share))]
        if "left" in unit.matrices and "sparse" not in unit.matrices:
            ranks.append(unit.matrices["left"][0] // m)
        rank = min(ranks)
        pair = {"left": (m * rank, m * rank), "right": (rank * n, rank * n)}
        would, now = (replace(unit, matrices=pair).nbytes(itemsize), unit.nbytes(itemsize))
        if would >= now:
            unless = "" if self.energy_threshold is None else " unless energy asks for less"
            return planned(unit, f"left as it is{unless}: rank {rank}: {_no_gain(would, now)}")
        bound = "rank" if self.energy_threshold is None else "rank at most"
        return planned(unit, f"{bound} {rank} of {min(m, n)}", **pair)

    def apply(self, model: Compressible, context: StageContext) -> StageReport:
        self.forget()
        chosen, skipped = self.choose(model)
        report = StageReport(skipped=skipped)
        paired = None
        if self.paired_features is not None:
            paired = PairedFeatures(self.paired_features, model.units(), self.paired_rank)
        bytes_before = sum(bytes_of(unit, context.itemsize) for unit in chosen)
        for done, (unit, moments) in enumerate(self._with_moments(chosen, model, context)):
            context.progress(done, len(chosen), f"layers ({unit.name})")
            with naming(self, unit):
                facts: dict[str, Any] = {}
                if paired is not None and unit.name in paired.names:
                    directions = paired.directions(unit)
                    unit.write(projected(unit.read(), directions, unit.factorable, context.itemsize))
                    facts["projected_out"] = self.paired_rank
                facts |= self._truncate(unit, moments, context.itemsize, report)
            if facts:
                report.touched[unit.name] = facts
        bytes_after = sum(bytes_of(unit, context.itemsize) for unit in chosen)
        report.facts |= self._facts(report, bytes_before, bytes_after)
        if paired is not None:
            report.facts["paired_features_not_chosen"] = sorted(paired.names - {unit.name for unit in chosen})
        context.progress(len(chosen), len(chosen), "layers")
        return report

    def _with_moments(
        self, chosen: Sequence[Unit], model: Compressible, context: StageContext
    ) -> Iterator[tuple[Unit, Moments | None]]:
        """Each unit with the moments of its inputs, where the metric asks for them and its kind has any.

        They are taken for as many units at a time as `BUDGET` allows; those that come later see the inputs
        that the units before them, factorised by then, really give.
        """
        if self.metric == "plain":
            yield from ((unit, None) for unit in chosen)
            return
        if not context.calibration:
            raise UserError(
                f"{self.who}: metric=calibration compares outputs on calibration data, and"
                " there is none. Choose data with a calibration split (from Python:"
                " StageContext(calibration=batches)), or metric=plain."
            )
        factorable = [unit for unit in chosen if unit.factorable]
        fitted = InputMoments(model, factorable, context.calibration, full=True, budget=BUDGET)
        yield from ((unit, None) for unit in chosen if unit.name not in {one.name for one in fitted.units})
        for part in fitted.passes():
            moments = fitted.gather(part)
            while part:
                unit = part.pop(0)
                yield unit, moments.pop(unit.name)

    def _truncate(self, unit: Unit, moments: Moments | None, itemsize: int, report: StageReport) -> dict[str, Any]:
        """Write the pair of the chosen rank, or leave the unit and note why; returns the facts."""
        if not unit.factorable:
            reason = "a norm" if unit.kind == "norm" else "a grouped convolution"
            report.skip(unit, f"{reason} holds no low-rank pair")
            return {}
        form = unit.read().folded()
        if form.nonzeros == 0:
            report.skip(unit, "every value is zero: there is nothing to factorise")
            return {}
        stored = next(matrix for _, matrix in form.matrices())
        moment = moments.damped() if moments is not None and moments.fired else None
        facts = self.decompose_layer(unit.name, form, moment)
        svd = self.decomposed_layers.pop(unit.name)
        pair = factor_pair(svd, facts["rank"], self.factors)
        left, right = (factor.to(stored.device, stored.dtype) for factor in pair)
        low_rank = Form(left=left, right=right, bias=form.bias)
        now, would = matrix_bytes(form, itemsize), matrix_bytes(low_rank, itemsize)
        if would >= now:
            report.skip(unit, f"rank {facts['rank']} (bound by {facts['bound']}): {_no_gain(would, now)}")
            report.facts[DID_NOT_PAY] = report.facts.get(DID_NOT_PAY, 0) + 1
            del self.selected_ranks[unit.name]
            return {}
        unit.write(low_rank)
        self.applied[unit.name] = unit
        facts |= self._calibrated(moments)
        return {**facts, "full_rank": min(unit.shape), "bytes_before": now, "bytes_after": would}

    def _calibrated(self, moments: Moments | None) -> dict[str, Any]:
        """What the pair was fitted to, where the metric is that of calibration data."""
        if self.metric == "plain":
            return {}
        if moments is None or not moments.fired:
            why = "its kind has no moments" if moments is None else moments.note
            return {"metric": "plain", "note": f"truncated in the plain metric: {why}"}
        note = {"note": moments.note} if moments.note else {}
        return {"metric": "calibration", "samples": moments.samples, **note}

    def _facts(self, report: StageReport, before: int, after: int) -> dict[str, Any]:
        made = [facts for facts in report.touched.values() if "rank" in facts]
        bounds = [facts["bound"] for facts in made]
        mean = math.fsum(facts["energy_preserved"] for facts in made) / max(1, len(made))
        return {
            "factorised": len(made),
            "bound_by_energy": bounds.count("energy"),
            "bound_by_share": bounds.count("share"),
            "mean_energy_kept": mean if made else None,
            "bytes_before": before,
            "bytes_after": after,
        }


def _no_gain(would: int, now: int) -> str:
    return f"the factors would not be smaller, {would:,} bytes where {now:,} are stored"
