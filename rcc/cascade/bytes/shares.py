"""Share the way to a target in bytes among stages, by how much each alone harms the dense model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rcc.calibration.targets import dense_outputs, output_distance
from rcc.layers.model import Batch
from rcc.layers.modes import evaluating
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage

LEAST = 1e-12
"""A distance below which two stages are equally good: what rounding alone does."""


def equal_shares(stages: Sequence[Stage]) -> dict[str, float]:
    """One share each, by label."""
    return {stage.label: 1 / len(stages) for stage in stages}


def measured_shares(
    model: Adapter,
    stages: Sequence[Stage],
    batches: Sequence[Batch],
    apply: Callable[[Stage], None],
    restore: Callable[[], None],
) -> dict[str, float]:
    """The share of each stage in ln(bytes now / bytes due), by label; they sum to 1.

    Each stage is applied alone to the dense model, hard enough for the same bytes, and the distance d of the outputs
    to the dense ones is measured. Half the way costs a quarter of the distance, as for any smooth loss about its
    minimum; then Σ d_i w_i² is least, under Σ w_i = 1, for w_i in proportion to 1 / d_i.

    Args:
        apply: compresses `model` by a stage, in place.
        restore: makes it the dense model again.
    """
    targets = dense_outputs(model, batches)
    distances = {}
    for stage in stages:
        apply(stage)
        distances[stage.label] = distance(model, batches, targets)
        restore()
    weights = {label: 1 / max(distance, LEAST) for label, distance in distances.items()}
    return {label: weight / sum(weights.values()) for label, weight in weights.items()}


def distance(model: Adapter, batches: Sequence[Batch], targets: Sequence[Mapping[str, Tensor]]) -> float:
    """Mean of 1 - cosine over the batches."""
    pairs = zip(batches, targets, strict=True)
    with torch.no_grad(), evaluating(model.module):
        found = [float(output_distance(model.outputs(batch), target)) for batch, target in pairs]
    return sum(found) / len(found)
