"""Quantisation: stored values as whole numbers of a step for each row, which the artifact keeps in a byte or less.

The maths, its sources and what it costs: docs/method/quant.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from rcc.calibration.layer_fits import LayerFit
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.nonzeros import count_nonzeros
from rcc.ops.prune import relative_error
from rcc.stages.base import CODED, StageContext, StageReport, UnitPlan, bytes_of, naming
from rcc.stages.layerwise import Unfitted, layerwise
from rcc.stages.options import AUTO, ConfiguredStage
from rcc.stages.quant.allocation import Allotment, Grid, Spaced
from rcc.stages.quant.options import EMBEDDING, MOST_BITS, USUAL_BITS, QuantOptions
from rcc.stages.quant.rounding import nearest, stepped, with_feedback
from rcc.stages.quant.survey import survey
from rcc.stages.quant.tables import of_table
from rcc.stages.quant.vectors import foreseen, round_vectors

NORM = "a norm has no quantisation steps; its values stay as they are"
NO_GAIN = "with a step a row its values would take no fewer bytes"


class Quantizer(ConfiguredStage[QuantOptions]):
    """Rounds every stored matrix, S, U and V, to step[:, None] * q with whole numbers q of `bits` bits.

    q lies in [-L, L], L = 2^(bits - 1) - 1; zeros stay zeros; a step is a value of the artifact's dtype. A matrix that
    would take no fewer bytes with its steps is left. Biases and norms are left, or rounded too (`vector_bits`).

    Args: see `ConfiguredStage`; the options are those of `QuantOptions`.
    """

    method = "quant"
    last = True
    more_roles: ClassVar[Sequence[str]] = (EMBEDDING,)
    options_type = QuantOptions
    no_strength = "set its bits and embedding_bits"

    due: int | None = None
    """Bytes that all whole numbers are to take; None leaves it to `bits`."""

    def softer(self, by: Callable[[float], float | None]) -> Self | None:
        """With a bit more a value, where there are fewer than the most."""
        finer = {
            name: min(MOST_BITS, (USUAL_BITS if bits == AUTO else int(bits)) + 1)
            for name, bits in (("bits", self.options.bits), ("embedding_bits", self.options.embedding_bits))
        }
        if self.due is not None or finer == {"bits": self.options.bits, "embedding_bits": self.options.embedding_bits}:
            return None
        other = copy.copy(self)
        other._configure(replace(self.options, **finer))  # type: ignore[arg-type]
        return other

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        return [self._planned(unit, itemsize) for unit in units]

    def _planned(self, unit: UnitPlan, itemsize: int) -> UnitPlan:
        if unit.kind == "norm":
            return replace(unit, note=f"left as it is: {NORM}")
        steps = stepped(unit.matrices, unit.shape[0], itemsize)
        if not steps:
            return replace(unit, note=f"left as it is: {NO_GAIN}")
        return replace(unit, steps=steps, note=f"{self._bits(unit.role)} bits a value, a byte before entropy coding")

    def _bits(self, role: str) -> int:
        bits = self.options.embedding_bits if role == EMBEDDING else self.options.bits
        return USUAL_BITS if bits == AUTO else int(bits)

    def _grid(self, role: str, storage: torch.dtype) -> Grid:
        return Grid(2 ** (self._bits(role) - 1) - 1, storage, self.options.clip)

    @property
    def fills(self) -> bool:
        return self.options.bits == AUTO and self.options.feedback

    @property
    def unfillable(self) -> str:
        if not self.options.changed(("clip",)):
            return ""
        return (
            f"{self.who}: clip={self.options.clip} has no effect under a target in bytes, which decides the steps:"
            " leave it out, or set bits."
        )

    def within(self, nbytes: int) -> Self:
        if not self.fills:
            return super().within(nbytes)
        if self.unfillable:
            raise UserError(self.unfillable)
        other = copy.copy(self)
        other.due = nbytes
        return other

    @torch.no_grad()
    def foresee(self, unit: Unit, form: Form, storage: torch.dtype) -> Form:
        counts = {name: (matrix.numel(), count_nonzeros(matrix)) for name, matrix in form.matrices()}
        names = stepped(counts, unit.shape[0], storage.itemsize)
        if unit.kind == "norm" or not names:
            return form
        return nearest(form.folded(), dict.fromkeys(names, self._grid(unit.role, storage)))

    @torch.no_grad()
    def foresee_vector(self, name: str, values: Tensor, storage: torch.dtype) -> Tensor:
        return values if self.options.vector_bits is None else foreseen(name, values, storage)

    @torch.no_grad()
    def apply(self, model: Model, context: StageContext) -> StageReport:
        if self.needs_calibration and not context.calibration:
            raise UserError(
                f"{self.who}: rounding=feedback compares outputs on calibration data, and there is none. Choose data"
                " with a calibration split (from Python: StageContext(calibration=batches)), or rounding=nearest."
            )
        self.model = model
        chosen, skipped = self.choose(model)
        report = StageReport(skipped=skipped)
        names = self._names(chosen, context.itemsize, report)
        rounded = [unit for unit in chosen if unit.name in names]
        allotted, tables = self._allot(model, context, names)
        for done, step in enumerate(self._steps(model, context, rounded)):
            context.progress(done, len(rounded), f"layers ({step.unit.name})")
            with naming(self, step.unit):
                self._round(step, names[step.unit.name], allotted, tables, context, report)
        context.progress(len(rounded), len(rounded), "layers")
        report.facts |= self._facts(report)
        if allotted is not None:
            report.facts |= {"due_bytes": self.due, CODED: allotted.taken}
        if self.options.vector_bits is not None:
            report.facts |= round_vectors(model.module, context.storage)
        return report

    def _names(self, chosen: Sequence[Unit], itemsize: int, report: StageReport) -> dict[str, dict[str, int]]:
        """The matrices that are rounded and how many steps each takes, by unit; why others are left is noted."""
        found = {}
        for unit in chosen:
            names = {} if unit.kind == "norm" else stepped(UnitPlan.of(unit).matrices, unit.shape[0], itemsize)
            if names:
                found[unit.name] = names
            else:
                report.skip(unit, NORM if unit.kind == "norm" else NO_GAIN)
        return found

    def _allot(
        self, model: Model, context: StageContext, names: Mapping[str, Mapping[str, int]]
    ) -> tuple[Allotment | None, Mapping[str, Tensor]]:
        """The share of each matrix in the bytes that are due, as a survey of the model tells, and how errors of the
        columns of its tables count together; nothing where no bytes are due."""
        if self.due is None:
            return None, {}
        even = {unit.name for unit in model.units() if unit.role == EMBEDDING and self.options.embedding_bits != AUTO}
        asked = {name: list(held) for name, held in names.items() if name not in even}
        told = survey(model, context, asked, self.options.feedback)
        return Allotment(told.curves, self.due, context.storage), told.tables

    def _steps(self, model: Model, context: StageContext, chosen: Sequence[Unit]) -> Iterator[LayerFit | Unfitted]:
        if not self.options.feedback:
            return (Unfitted(unit, "") for unit in chosen)
        return layerwise(model, context, chosen)

    def _round(
        self,
        step: LayerFit | Unfitted,
        names: Mapping[str, int],
        allotted: Allotment | None,
        tables: Mapping[str, Tensor],
        context: StageContext,
        report: StageReport,
    ) -> None:
        """Write the rounded form."""
        unit = step.unit
        before = UnitPlan.of(unit)
        form = unit.read().folded()
        dense = form.dense()
        even = self._grid(unit.role, context.storage)
        facts: dict[str, Any] = {"steps": sum(names.values())}
        # Once, whatever the number of tries: to shrink and damp it reads all of H.
        problem = None
        if isinstance(step, LayerFit):
            problem = step.damped(dense)
        elif unit.name in tables:
            problem = of_table(dense, tables[unit.name])

        def round_with(grids: Mapping[str, Grid | Spaced]) -> Form:
            if problem is None:
                return nearest(form, grids)
            fed = with_feedback(form, grids, problem)
            return step.settled(fed) if isinstance(step, LayerFit) else fed

        if allotted is None:
            rounded = round_with(dict.fromkeys(names, even))
            facts["bits"] = self._bits(unit.role)
        else:
            rounded, nbytes = allotted.rounded(unit.name, names, even, round_with)
            facts["bits_coded"] = 8 * nbytes / sum(getattr(rounded, name).numel() for name in names)
        if isinstance(step, LayerFit):
            objective = step.objective()
            facts["output_error_before"] = objective.relative_error(dense)
            facts["output_error"] = objective.relative_error(rounded.dense())
        facts["weight_change"] = relative_error(dense, rounded.dense())
        unit.write(rounded)
        facts |= {"bytes_before": before.nbytes(context.itemsize), "bytes_after": bytes_of(unit, context.itemsize)}
        note = self._note(step)
        report.touched[unit.name] = facts | ({"note": note} if note else {})

    def _note(self, step: LayerFit | Unfitted) -> str:
        """What a user should know of how the unit was rounded; empty where all is well."""
        if isinstance(step, LayerFit):
            return step.note
        # Rounding to nearest is what was asked for, or all there is for a table of rows.
        expected = not self.options.feedback or step.unit.kind == "embedding"
        return "" if expected else f"rounded to nearest: {step.reason}"

    def _facts(self, report: StageReport) -> dict[str, Any]:
        touched = report.touched.values()
        fitted = [facts for facts in touched if "output_error" in facts]
        means = {
            f"mean_{name}": math.fsum(facts[name] for facts in fitted) / len(fitted)
            for name in ("output_error_before", "output_error")
            if fitted
        }
        totals = {name: sum(facts[name] for facts in touched) for name in ("steps", "bytes_before", "bytes_after")}
        own = self.options
        options = {"bits": own.bits, "embedding_bits": own.embedding_bits, "rounding": own.rounding, "clip": own.clip}
        return {**options, "quantised": len(report.touched), **totals, **means}
