"""Losses of inputs and targets: against their formulas, with and without a teacher, in every shape of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rcc.errors import UserError
from rcc.learning.supervised import Supervised
from rcc.learning.trainer import CompressionTrainer

CPU = torch.device("cpu")


class Named(nn.Module):
    """Takes its inputs by name and gives a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(x)}


def batch(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 4), torch.randint(3, (count,))


def test_the_distillation_is_that_of_the_specification() -> None:
    student, teacher = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    found = CompressionTrainer(nn.Linear(2, 2), None, {"kd_temp": 3.0}).compute_distillation_loss(student, teacher)
    soft = F.softmax(teacher / 3, -1)
    by_hand = (soft * (soft.log() - F.log_softmax(student / 3, -1))).sum(1).mean() * 9
    assert found.item() == pytest.approx(by_hand.item())
    # softmax([2, 1, 0.1] / T) for T = 1 and 2, the values of the corrected specification
    assert F.softmax(torch.tensor([2.0, 1.0, 0.1]), 0).tolist() == pytest.approx([0.659, 0.242, 0.099], abs=5e-4)
    assert Supervised(nn.Linear(1, 1), None, CPU).distillation(student, student, 2.0).item() == pytest.approx(0)


def test_tokens_count_as_items_of_a_distillation() -> None:
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    of = Supervised(nn.Linear(1, 1), None, CPU)
    assert of.distillation(student, teacher).item() == pytest.approx(
        of.distillation(student.reshape(6, 5), teacher.reshape(6, 5)).item()
    )


def test_the_loss_mixes_the_task_and_the_teacher_and_the_teacher_takes_no_gradient() -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    x, y = batch()
    of = Supervised(student, teacher, CPU, kd_temp=2.0, kd_weight=0.25)
    loss = of.loss((x, y))
    task, taught = F.cross_entropy(student(x), y), of.distillation(student(x), teacher(x))
    assert loss.item() == pytest.approx((0.75 * task + 0.25 * taught).item())
    loss.backward()
    assert teacher.weight.grad is None
    assert student.weight.grad is not None


@pytest.mark.parametrize("inputs", [lambda x: {"x": x}, lambda x: [x], lambda x: x])
def test_inputs_come_by_name_in_a_list_or_alone_and_logits_in_a_mapping(inputs: Any) -> None:
    module = Named()
    x, y = batch()
    found = Supervised(module, None, CPU).loss((inputs(x), y))
    assert found.item() == pytest.approx(F.cross_entropy(module.layer(x), y).item())


def test_validation_weighs_batches_by_their_items_and_counts_what_is_right() -> None:
    module = nn.Linear(4, 3)
    x, y = batch(7)
    found = Supervised(module, None, CPU).measure([(x[:5], y[:5]), (x[5:], y[5:])])
    assert found["loss"] == pytest.approx(F.cross_entropy(module(x), y).item())
    assert found["accuracy"] == pytest.approx((module(x).argmax(1) == y).float().mean().item())
    with pytest.raises(UserError, match="no items to validate"):
        Supervised(module, None, CPU).measure([])


def test_mixed_precision_is_bfloat16_on_a_cpu_and_float16_is_refused_there() -> None:
    assert CompressionTrainer(nn.Linear(2, 2), None, {"mixed_precision": True}).options.precision == "bfloat16"
    assert CompressionTrainer(nn.Linear(2, 2), None, {"mixed_precision": False}).mixed_precision is False
    with pytest.raises(UserError, match="precision is float16 and the model is on a CPU"):
        CompressionTrainer(nn.Linear(2, 2), None, {"mixed_precision": "float16"})
