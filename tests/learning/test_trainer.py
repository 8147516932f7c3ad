"""The loop: its schedule, which parameters decay, which epoch it keeps, and what stops it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rcc.errors import UserError, WorkError
from rcc.layers.model import Batch
from rcc.learning.callback import Callback, StepLines
from rcc.learning.loop import Step
from rcc.learning.precision import mixed_precision_forward
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


def test_training_stops_when_patience_is_over_and_keeps_the_best() -> None:
    model, batches = regression()
    scores = iter([0.1, 0.5, 0.5, 0.4, 0.9])
    trainer = CompressionTrainer(model, config=TrainingOptions(epochs=5, patience=2))
    history = trainer.fit(lambda epoch: batches, lambda: next(scores), len(batches))
    assert [epoch.score for epoch in history.epochs] == [0.1, 0.5, 0.5, 0.4]
    assert history.kept == 3


def test_the_moving_average_is_what_is_measured_and_kept() -> None:
    model, batches = regression()
    layer, seen = model.module.layer, []
    by_hand = layer.weight.detach().clone()

    class Follow(Callback):
        def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
            decay = min(0.5, (1 + trainer.global_step) / (10 + trainer.global_step))
            by_hand.lerp_(layer.weight.detach(), 1 - decay)

    def score() -> float:
        seen.append(layer.weight.detach().clone())
        return 0.0

    options = TrainingOptions(epochs=2, average=0.5, learning_rate=0.1, warmup=0)
    CompressionTrainer(model, config=options, callbacks=[Follow()]).fit(lambda epoch: batches, score, len(batches))
    torch.testing.assert_close(seen[-1], by_hand)
    assert torch.equal(layer.weight, seen[-1])


def test_a_logit_scale_stays_at_a_hundred_or_below() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit_scale = nn.Parameter(torch.tensor(4.6))

    module = Scaled()
    trainer = CompressionTrainer(
        module, config=TrainingOptions(epochs=1, warmup=0), loss=lambda _: -module.logit_scale * 10
    )
    trainer.fit(lambda epoch: range(20), lambda: 0.0, 20)
    assert module.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_a_loss_that_is_not_finite_from_the_first_step_on_says_so() -> None:
    model, batches = regression()
    for batch in batches:
        batch["x"][0] = float("nan")
    with pytest.raises(WorkError, match=r"became nan from the first step on: look for it in the data"):
        CompressionTrainer(model, config=TrainingOptions(epochs=5)).fit(lambda epoch: batches, lambda: 0.0, 4)


def test_a_score_that_is_not_finite_and_a_frozen_model_are_refused() -> None:
    model, batches = regression()
    with pytest.raises(WorkError, match="the score after epoch 1 is nan"):
        CompressionTrainer(model).fit(lambda epoch: batches, lambda: float("nan"), len(batches))
    model.module.requires_grad_(False)
    with pytest.raises(UserError, match="everything is frozen"):
        CompressionTrainer(model)


def test_the_specification_s_face_trains_a_student_of_a_teacher() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Linear(6, 3), nn.Linear(6, 3)
    x = torch.randn(64, 6)
    data = TensorDataset(x, teacher(x).argmax(1))
    loader = DataLoader(data, batch_size=16)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    config = {"lr": 0.05, "wd": 0.0, "epochs": 4, "kd_temp": 2.0, "mixed_precision": True, "warmup": 0}
    trainer = CompressionTrainer(student, teacher, config)
    first = trainer.validate(loader)
    history = trainer.train(loader, loader, 8)
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ["train_loss", "grad_norm", "learning_rate", "val_loss", "val_accuracy"], 8
    )
    assert history["val_loss"][-1] < 0.7 * first["loss"]
    assert (trainer.current_epoch, trainer.global_step, trainer.scaler) == (8, 32, None)
    assert trainer.mixed_precision
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    with pytest.raises(UserError, match="a teacher, kd_temp and kd_weight have no effect"):
        CompressionTrainer(student, teacher, loss=lambda batch: torch.zeros(()))


def test_one_epoch_by_hand_is_counted() -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(32, 6), torch.randint(3, (32,))), batch_size=8)
    trainer = CompressionTrainer(nn.Linear(6, 3), None, {"lr": 0.05, "epochs": 2})
    metrics = [trainer.train_epoch(loader) for _ in range(2)]
    assert metrics[1]["loss"] < metrics[0]["loss"]
    assert set(metrics[0]) == {"loss", "grad_norm", "skipped"}
    assert (trainer.current_epoch, trainer.global_step) == (2, 8)


def test_a_forward_pass_that_overflows_under_autocast_is_done_again_in_full_precision() -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            out = self.layer(x)
            return {"out": out * float("inf") if out.dtype is torch.bfloat16 and x[0, 0] > 0 else out}

    module, x = Overflowing(), torch.ones(1, 2)
    assert mixed_precision_forward(module, {"x": x}, torch.bfloat16)["out"].dtype is torch.float32
    assert mixed_precision_forward(module, {"x": -x}, torch.bfloat16)["out"].dtype is torch.bfloat16
    with pytest.raises(UserError, match="float16 and the model is on a CPU"):
        mixed_precision_forward(module, {"x": x})


def test_a_long_epoch_says_where_it_stands_at_most_once_a_minute() -> None:
    model, batches = regression()
    ticks = iter(range(0, 100_000, 25))
    said: list[tuple[int, int, str]] = []
    lines = StepLines(lambda done, total, what: said.append((done, total, what)), clock=lambda: float(next(ticks)))
    trainer = CompressionTrainer(model, config=TrainingOptions(epochs=2, warmup=0), callbacks=[lines])
    trainer.fit(lambda epoch: batches * 2, lambda: 0.0, 8)
    assert [(done, total, what.split(",")[0]) for done, total, what in said] == [
        (4, 8, "steps of epoch 1 of 2"),
        (7, 8, "steps of epoch 1 of 2"),
        (3, 8, "steps of epoch 2 of 2"),
        (6, 8, "steps of epoch 2 of 2"),
    ]
    assert said[0][2].endswith("0.04 steps/s")
