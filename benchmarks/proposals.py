"""Compare TPE, random search and early stopping where a trial takes a fraction of a second.

    python benchmarks/proposals.py
    python benchmarks/proposals.py --trials 40 --seeds 5

The model is a network of 64, 128, 64 and 10 units, trained here on scikit-learn's digits; a trial is a real cascade
over it, in four rounds: what `experiment=pareto` searches of `dare`, `nullu` and `quant`, without calibration. Points,
reports and verdicts are those of a sweep, in a study of its own. Prints, a line a search, the hypervolume of retention
at bytes as docs/reports.md defines it, processor time of its cascades, steps that were done, and trials that were
abandoned; then the medians. Cost: about a minute of a core.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

from rcc import DARECompressor, NulluProjector, Quantizer, RCCPipeline, Schedule
from rcc.cascade.abandonment import AbandonedError
from rcc.cascade.records import StepRecord
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import Stage
from rcc.sweeps.early_stopping import FRONT, NONE, Report, learnt_from
from rcc.sweeps.front import hypervolume
from rcc.sweeps.objectives import read_objectives
from rcc.sweeps.proposal import propose
from rcc.sweeps.space import Dimension, Value
from rcc.sweeps.study import SweepStudy
from rcc.sweeps.watching import Watch

WAYS = {"tpe": ("tpe", NONE), "random": ("random", NONE), "tpe+front": ("tpe", FRONT)}
CASCADES = ("dare+quant", "nullu+dare+quant", "dare+nullu+quant", "nullu+quant")
SPACE = [
    Dimension("stage", "stage", CASCADES),
    Dimension("dare.sparsity", "dare.sparsity", low=0.2, high=0.95),
    Dimension("nullu.rank", "nullu.rank", low=0.1, high=0.8),
    Dimension("quant.bits", "quant.bits", (3, 4, 5, 6, 8)),
]
OBJECTIVES = read_objectives(["retention:max", "bytes:min"])
DIRECTIONS = [objective.direction for objective in OBJECTIVES]


def trained() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The network, and images and labels that it was not trained on."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(300):
        loss = nn.functional.cross_entropy(model(images[:900]), labels[:900])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, images[900:], labels[900:]


def stages_of(point: Mapping[str, Value]) -> list[Stage]:
    """The cascade of a point."""
    made: dict[str, Any] = {
        "dare": lambda: DARECompressor(target_sparsity=point["dare.sparsity"], solver="none", allocation="uniform"),
        "nullu": lambda: NulluProjector(rank_reduction_ratio=point["nullu.rank"], metric="plain"),
        "quant": lambda: Quantizer(bits=point["quant.bits"], embedding_bits=8, rounding="nearest"),
    }
    return [made[name]() for name in str(point["stage"]).split("+")]


def has_place(dimension: Dimension, point: Mapping[str, Value]) -> bool:
    """Whether the cascade of a point has the stage that an option is of."""
    return dimension.is_group or dimension.option.split(".")[0] in str(point["stage"])


def searched(way: str, seed: int, trials: int, dense: nn.Module, data: Sequence[torch.Tensor]) -> dict[str, float]:
    """Hypervolume, seconds, steps and abandoned trials of one search."""
    sampler, rule = WAYS[way]
    largest = 4.0 * sum(parameter.numel() for parameter in dense.parameters())
    seconds, steps, points = 0.0, 0, []
    with tempfile.TemporaryDirectory() as name:
        study = SweepStudy(Path(name), "", DIRECTIONS, SPACE)
        for number in range(trials):
            history = [learnt_from(copy.copy(trial)) for trial in study.trials()]
            point = propose(SPACE, sampler, {}, seed, number, DIRECTIONS, history, has_place)
            assert point is not None
            study.add(point)
            watch = Watch(Path(name), "", "rcc", number, rule, OBJECTIVES) if rule != NONE else None
            started = time.process_time()
            model = ModuleAdapter(copy.deepcopy(dense))
            kept, nbytes, done, reason = compressed(model, stages_of(point.params), watch, data)
            seconds, steps = seconds + time.process_time() - started, steps + done
            if reason:
                study.abandon(number, reason)
            else:
                points.append((kept, nbytes))
                study.tell(number, [kept, nbytes], {}, {})
    area = hypervolume(points, largest)
    return {"hypervolume": area, "seconds": seconds, "steps": steps, "abandoned": trials - len(points)}


def compressed(
    model: ModuleAdapter, stages: Sequence[Stage], watch: Watch | None, data: Sequence[torch.Tensor]
) -> tuple[float, float, int, str]:
    """Retention, bytes, steps that were done, and why the cascade was abandoned."""
    images, labels = data

    def accuracy(adapter: Any) -> float:
        with torch.no_grad():
            return float((adapter.module(images).argmax(1) == labels).float().mean())

    def ask(done: Sequence[StepRecord]) -> str:
        if watch is None:
            return ""
        left = tuple(dict.fromkeys(planned.step.label for planned in plan.steps[len(done) :]))
        kept, nbytes = (done[-1].retention, done[-1].size.nbytes) if done else (1.0, plan.dense_bytes)
        return watch.ask(Report(len(done), left, kept, float(nbytes)), float(plan.steps[-1].nbytes))

    pipeline = RCCPipeline(
        list(stages), on_failure="continue", tries=0, schedule=Schedule(rounds=4), abandon=ask, fold=False
    )
    plan = pipeline.plan(model)
    try:
        pipeline.run(model, accuracy)
    except AbandonedError as end:
        return 0.0, 0.0, end.step, end.reason
    summary = pipeline.get_pipeline_summary()
    return summary.retention, float(summary.size.nbytes), len(summary.records), ""


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dense, *data = trained()
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    print("way        seed    hypervolume  processor time  steps  abandoned")
    for seed in range(asked.seeds):
        for way, several in results.items():
            several.append(one := searched(way, seed, asked.trials, dense, data))
            print(
                f"{way:<9}  {seed:>4}    {one['hypervolume']:>11.4f}  {one['seconds']:>12.2f} s  {one['steps']:>5.0f}"
                f"  {one['abandoned']:>9.0f}",
                flush=True,
            )
    for way, several in results.items():
        middle = {name: median(one[name] for one in several) for name in several[0]}
        print(
            f"{way:<9}  median  {middle['hypervolume']:>11.4f}  {middle['seconds']:>12.2f} s  {middle['steps']:>5.0f}"
            f"  {middle['abandoned']:>9.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
