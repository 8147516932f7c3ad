"""Track the units of one model under pruning: their values, what they were before, and what can be counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.moments import Moments, input_moments
from rcc.calibration.weight_gradients import weight_gradients
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.nonzeros import count_nonzeros
from rcc.ops.prune import prune_, relative_error, rescale, squared_norm, survival_factor
from rcc.ops.row_select import select_by_row
from rcc.ops.scores import Scores
from rcc.ops.select import Threshold, select_smallest, thresholds_of_smallest
from rcc.stages.base import StageContext, bytes_of
from rcc.stages.dare.plan import note_on_bytes, saves_nothing
from rcc.stages.dare.scores import GRADIENTS, note_on_moments, scored
from rcc.stages.dare.values import Values

Counts = dict[str, tuple[int, int]]
"""Matrix name -> (values, non-zeros among them)."""


class PruningState:
    """Made when a stage meets a model.

    Where the context has a `reference` the dense weights are read from it when they are asked for; where it
    has none, the units' forms are copied here, which takes the memory of the weights once more.

    Raises:
        UserError: units that hold a NaN or an infinity, by name.
    """

    def __init__(self, units: Sequence[Unit], values: Values, context: StageContext) -> None:
        self.units, self.values, self.context = list(units), values, context
        self.energy = {unit.name: sum(map(squared_norm, self.matrices(unit).values())) for unit in units}
        broken = [unit.name for unit in units if not self.energy[unit.name] < float("inf")]
        if broken:
            raise UserError(f"NaN or infinite weights in {', '.join(broken)}: there is no smallest among them.")
        self._copies = {} if context.reference else {unit.name: copy_of(unit.read()) for unit in units}
        places = [(unit.name, name) for unit in units for name in matrix_names(unit)]
        seeds = torch.randint(2**62, (len(places),), generator=context.generator())
        self._seeds = dict(zip(places, seeds.tolist(), strict=True))
        self._moments: dict[str, Moments] | None = None
        self._gradients: dict[tuple[str, str], Tensor] = {}
        self.note_counts()
        self._at_start = self._noted

    def matrices(self, unit: Unit) -> dict[str, Tensor]:
        """The values of `unit` by matrix name, in the memory in which they are stored."""
        return {name: self.values.read(unit, name) for name in matrix_names(unit)}

    def counts(self, unit: Unit) -> Counts:
        return {name: (matrix.numel(), count_nonzeros(matrix)) for name, matrix in self.matrices(unit).items()}

    def note_counts(self) -> None:
        """Take the counts of now as those that `survivals` compares with."""
        self._noted = {unit.name: self.counts(unit) for unit in self.units}

    def sparsity(self) -> tuple[float, dict[str, float]]:
        """The share of values that are zero, in all units together and in each."""
        counts = {unit.name: self.counts(unit).values() for unit in self.units}
        totals = {name: tuple(map(sum, zip(*pairs, strict=True))) for name, pairs in counts.items()}
        stored, nonzeros = (sum(column) for column in zip(*totals.values(), strict=True))
        return 1 - nonzeros / stored, {name: 1 - kept / numel for name, (numel, kept) in totals.items()}

    def calibrate(self, model: Model, score: str, inputs: bool) -> None:
        """Take what ranking needs of the model as it is now: moments of the units' inputs, where `inputs` are asked
        for, and gradients of its loss, where `score` is made of them."""
        batches = self.context.calibration or ()
        if inputs:
            self._moments = input_moments(model, self.units, batches)
        if score in GRADIENTS:
            squared = score == "fisher"
            self._gradients = weight_gradients(model.module, self.units, batches, model.loss, squared)

    def forget_gradients(self) -> None:
        """Let go of the gradients, which are as large as the model."""
        self._gradients = {}

    def masks(self, pool: Sequence[Unit], score: str, scope: str, count: int) -> Iterator[Tensor | Threshold]:
        """What is to go of `pool`, for matrix after matrix, lazily, `count` values in all.

        A mask that is true where a value goes; or, where the values are their own scores, the threshold that
        says the same without the memory.
        """
        if score == "magnitude" and scope != "row":
            return iter(thresholds_of_smallest(self.scores(pool, score), count))
        select = select_by_row if scope == "row" else select_smallest
        return select(self.scores(pool, score), count)

    def scores(self, pool: Sequence[Unit], score: str) -> Scores:
        """The scores of all values of `pool`, matrix after matrix, read when they are asked for."""
        places = [(unit, name, matrix) for unit in pool for name, matrix in unit.read().matrices()]
        sizes = [matrix.numel() for _, _, matrix in places]
        wide = any(matrix.dtype == torch.float64 for _, _, matrix in places)
        # The matrices themselves must not be held: pruning replaces them one by one, and the old ones go.
        named = [(unit, name) for unit, name, _ in places]

        def make(index: int) -> Tensor:
            unit, name = named[index]
            values = self.values.read(unit, name)
            moments = self._moments.get(unit.name) if self._moments else None
            gradient = self._gradients.get((unit.name, name))
            return scored(score, values, unit, name, self._seeds[unit.name, name], moments, gradient)

        return Scores(sizes, make, torch.float64 if wide else torch.float32)

    def prune(self, unit: Unit, masks: Iterator[Tensor | Threshold]) -> None:
        """Zero the values under the next masks, one for each matrix of `unit`, in the memory they are in."""
        # The score of one matrix may depend on another of its unit, so no value changes before the last mask.
        gone = {name: next(masks) for name in matrix_names(unit)}
        self.values.write(unit, {name: prune_(matrix, gone[name]) for name, matrix in self.matrices(unit).items()})

    def multiply(self, unit: Unit, factors: Mapping[str, float | Tensor]) -> None:
        """Multiply the matrices named by their factors; zeros stay +0.0."""
        self.values.write(unit, {name: rescale(self.values.read(unit, name), by) for name, by in factors.items()})

    def multiply_rows(self, unit: Unit, factors: Tensor) -> None:
        """Multiply the rows of W by `factors` (out,), through those of S and U."""
        matrices = self.matrices(unit)
        column = factors[:, None].to(next(iter(matrices.values())).device)
        self.multiply(unit, {name: column for name in matrices if name != "right"})

    def survivals(self, unit: Unit) -> dict[str, float]:
        """For each matrix, what makes up for the values dropped at random since the counts were noted."""
        noted, now = self._noted[unit.name], self.counts(unit)
        return {name: survival_factor(noted[name][1], now[name][1]) for name in now}

    def original(self, unit: Unit) -> Form:
        """The form `restore` goes back to: the dense reference, or what was found at the start."""
        if unit.name in self._copies:
            return self._copies[unit.name]
        assert self.context.reference is not None
        form = unit.read()
        like = next(matrix for _, matrix in form.matrices())
        weight = self.context.reference(unit.name).to(like.device, like.dtype)
        return Form(sparse=weight.reshape(unit.shape), bias=form.bias)

    def kept(self) -> dict[str, Tensor]:
        """True where a value is not zero: by unit, in the shape of its weight, or 'unit.left' and 'unit.right' where
        factors are stored."""
        return {
            unit.name if name == "sparse" else f"{unit.name}.{name}": (
                unit.as_weight(matrix != 0) if name == "sparse" else matrix != 0
            )
            for unit in self.units
            for name, matrix in self.matrices(unit).items()
        }

    def totals(self) -> dict[str, Any]:
        """The sums of all units' `stats`, under the names of the specification, and each unit's own."""
        layers = {unit.name: self.stats(unit) for unit in self.units}
        stored, pruned, dense, nbytes = (
            sum(layer[key] for layer in layers.values()) for key in ("stored", "pruned", "dense_bytes", "bytes")
        )
        return {
            "total_parameters": stored,
            "pruned_parameters": pruned,
            "sparsity": pruned / stored,
            "original_bytes": dense,
            "compressed_bytes": nbytes,
            "memory_reduction": 1 - nbytes / dense,
            "layers": layers,
        }

    def facts(self, unit: Unit) -> dict[str, Any]:
        """`stats`, with the non-zeros there were at the start, ‖W − W_original‖ / ‖W_original‖, and a note
        where the zeros do not pay or the inputs are not known."""
        facts = self.stats(unit) | {
            "nonzeros_before": sum(kept for _, kept in self._at_start[unit.name].values()),
            "relative_error": relative_error(self.original(unit).dense(), unit.read().dense()),
        }
        notes = [note_on_moments(unit, self._moments.get(unit.name))] if self._moments is not None else []
        if facts["pruned"] and saves_nothing(self.counts(unit), self.context.itemsize):
            notes.append(note_on_bytes(self.context.itemsize))
        if any(notes):
            facts["note"] = "; ".join(filter(None, notes))
        return facts

    def restore(self, unit: Unit) -> None:
        unit.write(copy_of(self.original(unit)))

    def stats(self, unit: Unit) -> dict[str, Any]:
        """Counts, share of zeros, and bytes as stored beside those of the dense weight."""
        stored, nonzeros = (sum(column) for column in zip(*self.counts(unit).values(), strict=True))
        return {
            "stored": stored,
            "nonzeros": nonzeros,
            "pruned": stored - nonzeros,
            "sparsity": 1 - nonzeros / stored,
            "dense_bytes": unit.numel * self.context.itemsize,
            "bytes": bytes_of(unit, self.context.itemsize),
        }


def matrix_names(unit: Unit) -> list[str]:
    """The names of the unit's stored matrices, in the order in which they are pruned."""
    return [name for name, _ in unit.read().matrices()]


def copy_of(form: Form) -> Form:
    """The same form in memory of its own."""
    tensors = {name: getattr(form, name) for name in ("sparse", "left", "right", "scale", "bias")}
    return Form(**{name: None if tensor is None else tensor.detach().clone() for name, tensor in tensors.items()})
