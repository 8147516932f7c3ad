"""Measures what each score, solver and allocation of `dare` leaves of the embedded CLIP, on the selection split.

    OMP_NUM_THREADS=1 python benchmarks/pruning_quality.py
    OMP_NUM_THREADS=1 python benchmarks/pruning_quality.py --sparsity 0.9 --rounds 1 --only admm

A model is pruned in one round, or in rounds of geometric shares, from the calibration split in batches of 16, as
`rcc-run` does it. Reported are the mean of 1 − cosine between its outputs and the dense model's, which has no
ceiling, and the zero-shot accuracy. Every row is one training run of the model and one seed.
"""

from __future__ import annotations

import argparse
import copy
from contextlib import nullcontext
from typing import Any

import torch

from rcc.calibration.targets import dense_outputs, output_distance
from rcc.cascade.schedule import Schedule
from rcc.data.registry import load_data
from rcc.data.splits import Split
from rcc.evaluation.registry import load_evaluator
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.registry import load_model
from rcc.stages.base import StageContext
from rcc.stages.dare.compressor import DARECompressor

BATCH = 16
UNIFORM = {"allocation": "uniform"}
"""What a way takes unless it says otherwise."""
WAYS: dict[str, dict[str, Any]] = {
    "magnitude": {"solver": "none"},
    "wanda": {"score": "wanda"},
    "wanda, layer": {"score": "wanda", "scope": "layer"},
    "taylor": {"score": "taylor"},
    "fisher": {"score": "fisher"},
    "obs": {"solver": "obs"},
    "admm": {"solver": "admm"},
    "admm, owl": {"solver": "admm", "allocation": "owl"},
    "admm, importance": {"solver": "admm", "allocation": "importance"},
    "admm, sensitivity": {"solver": "admm", "allocation": "sensitivity"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sparsity", type=float, action="append", help="share of zeros; repeatable")
    parser.add_argument("--rounds", type=int, action="append", help="rounds; repeatable")
    parser.add_argument("--only", choices=WAYS, action="append", help="one way of pruning; repeatable")
    options = parser.parse_args()
    sparsities, rounds = options.sparsity or [0.8, 0.9, 0.95], options.rounds or [1, 4]
    columns = [(number, sparsity) for number in rounds for sparsity in sparsities]
    print("| 1 − cos (accuracy, %) |" + "".join(f" {sparsity:.0%}, {number} r. |" for number, sparsity in columns))
    print("|---" * (len(columns) + 1) + "|", flush=True)
    model = load_model("clip_tiny", device="cpu")
    measurement = Quality(model)
    for way in options.only or WAYS:
        print(f"| {way} ", end="", flush=True)
        for number, sparsity in columns:
            distance, accuracy = measurement.of(
                pruned(model, DARECompressor(sparsity, **(UNIFORM | WAYS[way])), number)
            )
            print(f"| {distance:.4f} ({100 * accuracy:.1f}) ", end="", flush=True)
        print("|", flush=True)


class Quality:
    """How near a model is to the dense one on the selection split."""

    def __init__(self, dense: Adapter) -> None:
        self.splits, self.evaluator = load_data("digits"), load_evaluator("zero_shot")
        self.batches = batches(dense, self.splits.selection)
        self.targets = dense_outputs(dense, self.batches)

    def of(self, model: Adapter) -> tuple[float, float]:
        """(mean of 1 − cosine over outputs and items, zero-shot accuracy)."""
        pairs = zip(dense_outputs(model, self.batches), self.targets, self.batches, strict=True)
        total = sum(float(output_distance(found, target)) * size(batch) for found, target, batch in pairs)
        accuracy = self.evaluator.evaluate(model, self.splits.selection, self.splits).main.value
        return total / len(self.splits.selection), float(accuracy)


def pruned(dense: Adapter, stage: DARECompressor, rounds: int) -> Adapter:
    """A copy of `dense` after `rounds` of the stage."""
    model = copied(dense)
    weights = {unit.name: unit for unit in dense.units()}
    calibration = batches(dense, load_data("digits").calibration)
    for number, step in enumerate(Schedule(rounds, "geometric").steps([stage])):
        assert step.strength is not None
        context = StageContext(
            seed=number,
            calibration=calibration,
            reference=lambda name: weights[name].read().dense(),
            dense=lambda: nullcontext(copied(dense)),
        )
        stage.at(step.strength).apply(model, context)
    return model


def batches(model: Adapter, split: Split) -> list[Batch]:
    return [
        model.prepare(list(split.images[start : start + BATCH]), split.texts[start : start + BATCH])
        for start in range(0, len(split), BATCH)
    ]


def size(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def copied(model: Adapter) -> Adapter:
    twin = copy.copy(model)
    twin.module = copy.deepcopy(model.module)
    return twin


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
