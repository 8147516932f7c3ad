"""The stage of gradual pruning: what it leaves, how it can be softened, and whom it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from rcc.errors import UserError
from rcc.layers.copying import deep_copy
from rcc.layers.model import Batch
from rcc.layers.redirect import standing_in
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext, UnitPlan
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.gradual import GradualPruning


@dataclass(frozen=True)
class Drawn:
    """Batches of normal inputs, other ones in each epoch."""

    steps: int = 10

    def __call__(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(self.steps):
            yield {"input": torch.randn(32, 12, generator=generator)}


def dense_and_copy() -> tuple[ModuleAdapter, ModuleAdapter]:
    torch.manual_seed(0)
    dense = ModuleAdapter(nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 4)))
    return dense, ModuleAdapter(deep_copy(dense.module))


def error(model: ModuleAdapter, dense: ModuleAdapter) -> float:
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((model.module(x) - dense.module(x)).square().mean())


def context(model: ModuleAdapter, dense: ModuleAdapter) -> StageContext:
    return StageContext(
        training=lambda *_: Drawn(),
        score=lambda: -error(model, dense),
        dense=lambda: standing_in(dense, model.module),
        storage=torch.float16,
        seed=5,
    )


@pytest.mark.parametrize("score", ["gradient", "magnitude"])
def test_exactly_the_share_asked_is_zero_and_outputs_are_nearer_than_after_plain_pruning(score: str) -> None:
    dense, model = dense_and_copy()
    report = GradualPruning(target_sparsity=0.75, score=score, epochs=8, learning_rate=1e-2).apply(
        model, context(model, dense)
    )
    stored = sum(unit.numel for unit in model.units())
    zeros = sum(int((unit.read().dense() == 0).sum()) for unit in model.units())
    assert zeros == pytest.approx(0.75 * stored, abs=2)
    assert report.facts["sparsity"] == zeros / stored
    assert report.facts["best_epoch"] >= 5  # before, there were fewer zeros
    _, plain = dense_and_copy()
    DARECompressor(target_sparsity=0.75).apply(plain, StageContext())
    assert error(model, dense) < 0.5 * error(plain, dense)


def test_layers_that_are_left_out_keep_all_their_values_and_train() -> None:
    dense, model = dense_and_copy()
    GradualPruning(target_sparsity=0.5, epochs=2, include=["2"]).apply(model, context(model, dense))
    zeros = [int((unit.read().dense() == 0).sum()) for unit in model.units()]
    assert zeros == [0, 600, 0]
    assert not torch.equal(model.module[0].weight, dense.module[0].weight)


def test_its_strength_is_the_share_and_a_plan_counts_it() -> None:
    _, model = dense_and_copy()
    stage = GradualPruning(target_sparsity=0.8)
    softer = stage.softer(lambda strength: strength - 0.3)
    assert softer is not None
    assert softer.strength == pytest.approx(0.5)
    plans = stage.plan([UnitPlan.of(unit) for unit in model.units()], 2)
    stored, kept = (sum(each.matrices["sparse"][place] for each in plans) for place in (0, 1))
    assert kept == stored - round(0.8 * stored)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target_sparsity": 1.0}, "target_sparsity is 1.0; it must be a number in"),
        ({"score": "wanda"}, "unknown score 'wanda'. Available: gradient, magnitude"),
        ({"every": 0}, "every is 0"),
        ({"until": 0.0}, "until is 0.0"),
        ({"patience": 2}, "patience=2: scores fall while values are pruned"),
    ],
)
def test_what_is_out_of_range_is_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match="stage 'gradual'") as found:
        GradualPruning(**options)
    assert told in str(found.value)
