"""Make validators of a function, of an object with `compute_metrics`, or of batches alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.targets import dense_outputs, output_distance
from rcc.cascade.attempt import Validator
from rcc.cascade.inputs import Item, as_measurement
from rcc.cascade.state import StateStore
from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.layers.modes import evaluating
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter

WANTED = (
    "a validator is a function of the model that returns a rcc.Measurement or a number (better when higher), or an"
    " object with compute_metrics(outputs, targets) -> numbers by name, which needs batches (x, y) to measure on"
)
LOWER_IS_BETTER = ("loss", "error", "perplexity")


def validator_of(validator: Any, items: Sequence[Item] | None) -> Validator:
    """A function of the model that measures it, from a function, or from an object with `compute_metrics`.

    Raises:
        UserError: it is neither, or there are no items, or none with targets, to compute metrics on.
    """
    compute = getattr(validator, "compute_metrics", None)
    if callable(compute):
        if not items:
            raise UserError(
                f"{type(validator).__name__} computes metrics of outputs and targets, and there are no batches to run"
                " the model on: call run_pipeline(dataloader, validator) with batches (x, y), or give run() a function"
                " of the model that returns a rcc.Measurement or a number."
            )
        if any(item.targets is None for item in items):
            raise UserError(
                f"{type(validator).__name__} computes metrics of outputs and targets, and the batches have no targets:"
                " give (x, y), or a mapping with 'labels'."
            )
        return ComputedMetrics(compute, items)
    if callable(validator):
        found: Validator = validator
        return found
    raise UserError(f"the validator is of type {type(validator).__name__}: {WANTED}.")


class ComputedMetrics:
    """Measures a model by `compute(outputs, targets)`, averaged over batches by their items.

    `outputs` is what the model puts out, a tensor, or tensors by name where there are several.
    """

    def __init__(self, compute: Callable[[Any, Tensor], Mapping[str, float]], items: Sequence[Item]) -> None:
        self.compute, self.items = compute, items

    def __call__(self, model: Adapter) -> Measurement:
        """The metrics; the first that `compute` names is the primary one.

        Raises:
            UserError: they are no numbers by name, or the primary one is a loss.
        """
        totals: dict[str, float] = {}
        count = 0
        with torch.no_grad(), evaluating(model.module):
            for item in self.items:
                outputs = model.outputs(item.batch)
                assert item.targets is not None
                found = as_measurement(self.compute(next(iter(outputs.values())) if len(outputs) == 1 else outputs,
                                                    item.targets))  # fmt: skip
                size = len(item.targets)
                for metric in found.metrics:
                    totals[metric.name] = totals.get(metric.name, 0.0) + size * metric.value
                count += size
        primary = next(iter(totals))
        if any(word in primary.lower() for word in LOWER_IS_BETTER):
            raise UserError(
                f"compute_metrics names '{primary}' first, which is better when lower; the gate reads the first one and"
                " takes it to be better when higher. Name another first, or give a function of the model that returns"
                " a rcc.Measurement, whose metrics know their direction."
            )
        metrics = tuple(Metric(name, total / count) for name, total in totals.items())
        return Measurement(metrics, primary, "selection", count)


class OutputCosine:
    """Measures how close a model's outputs on `batches` are to the dense model's: their mean cosine, 1 for itself.

    What the gate reads where nobody gave a validator. The dense outputs are computed once, from the first checkpoint.
    """

    def __init__(self, state: StateStore, batches: Sequence[Batch]) -> None:
        self.state, self.batches = state, batches
        self._dense: list[dict[str, Tensor]] | None = None

    def __call__(self, model: Adapter) -> Measurement:
        if self._dense is None and self.state.latest() is not None:
            with self.state.dense(model) as dense:
                self._dense = dense_outputs(dense, self.batches)
        distance = 0.0  # before the first checkpoint the model is the dense one
        if self._dense is not None:
            with torch.no_grad(), evaluating(model.module):
                pairs = zip(self.batches, self._dense, strict=True)
                found = [float(output_distance(model.outputs(batch), target)) for batch, target in pairs]
            distance = sum(found) / len(found)
        metric = Metric("output_cosine", 1 - distance)
        return Measurement((metric,), metric.name, "held out", len(self.batches))
