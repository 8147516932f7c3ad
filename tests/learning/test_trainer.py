"""The loop: its schedule, which parameters decay, which epoch it keeps, and what stops it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from rcc.errors import WorkError
from rcc.layers.model import Batch
from rcc.learning.trainer import CompressionTrainer, TrainingOptions
from rcc.models.own.module import ModuleAdapter


def regression() -> tuple[ModuleAdapter, list[Batch]]:
    """A linear model and data that a linear model fits exactly."""
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    x = torch.randn(64, 4)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.7
    model = ModuleAdapter(module, loss=lambda batch: (module(batch["x"]) - batch["y"]).square().mean())
    return model, [{"x": x[i : i + 16], "y": y[i : i + 16]} for i in range(0, 64, 16)]


def test_training_fits_what_can_be_fitted() -> None:
    model, batches = regression()
    options = TrainingOptions(epochs=60, learning_rate=0.1, weight_decay=0.0, warmup=5)
    history = CompressionTrainer(model, config=options).fit(lambda epoch: batches, lambda: 0.0, len(batches))
    assert history.epochs[0].loss > 1
    assert history.epochs[-1].loss < 1e-3
    assert not model.module.training


@pytest.mark.parametrize(
    ("scores", "kept"), [([0.1, 0.9, 0.3], 2), ([0.5, 0.5, 0.2], 2), ([0.1, 0.2, 0.2], 3), ([-2.0, -1.0, -3.0], 2)]
)
def test_the_best_epoch_is_kept_and_the_later_of_equals(scores: list[float], kept: int) -> None:
    model, batches = regression()
    weights: list[torch.Tensor] = []

    def score() -> float:
        assert not model.module.training
        weights.append(model.module.layer.weight.detach().clone())
        return scores[len(weights) - 1]

    trainer = CompressionTrainer(model, config=TrainingOptions(epochs=3))
    history = trainer.fit(lambda epoch: batches, score, len(batches))
    assert history.kept == kept
    assert [epoch.score for epoch in history.epochs] == scores
    assert torch.equal(model.module.layer.weight, weights[kept - 1])
    assert history.to_json()["epochs"][0]["number"] == 1


def test_progress_is_told_after_every_epoch() -> None:
    model, batches = regression()
    told: list[tuple[int, int]] = []
    options = TrainingOptions(epochs=2)
    trainer = CompressionTrainer(model, config=options, progress=lambda done, total, what: told.append((done, total)))
    trainer.fit(lambda epoch: batches, lambda: 0.5, len(batches))
    assert told == [(1, 2), (2, 2)]


def test_every_epoch_asks_for_its_own_batches() -> None:
    model, batches = regression()
    asked: list[int] = []

    def of(epoch: int) -> Iterator[Batch]:
        asked.append(epoch)
        yield from batches

    CompressionTrainer(model, config=TrainingOptions(epochs=3)).fit(of, lambda: 0.0, len(batches))
    assert asked == [1, 2, 3]


def test_the_gradient_is_clipped() -> None:
    model, batches = regression()
    batches[0]["y"] = batches[0]["y"] * 1e6
    before = model.module.layer.weight.detach().clone()
    # With beta₁ = 0 Adam's first step is lr · g / |g|, whatever the clip; the clipped gradient itself stays behind.
    options = TrainingOptions(epochs=1, learning_rate=1e-4, clip_norm=0.5, warmup=0)
    CompressionTrainer(model, config=options).fit(lambda epoch: batches[:1], lambda: 0.0, 1)
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.module.parameters()])
    assert gradients.norm() == pytest.approx(0.5, rel=1e-4)
    assert not torch.equal(model.module.layer.weight, before)


def test_more_steps_than_allowed_that_are_not_finite_stop_the_training_and_it_says_when_and_what_to_lower() -> None:
    model, batches = regression()
    batches[1]["y"][0] = float("nan")
    options = TrainingOptions(epochs=3, most_skipped=1)
    with pytest.raises(WorkError, match=r"became nan in epoch 2; lower learning_rate \(0.001\).* 2 of 6 steps"):
        CompressionTrainer(model, config=options).fit(lambda epoch: batches, lambda: 0.0, len(batches))
