"""Learning rates: each shape against torch's own scheduler or its formula, and plateaus."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rcc.learning.schedules import LearningRates, constant, linear, one_cycle, warmup_cosine


def sgd(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def test_the_learning_rate_rises_linearly_and_falls_on_a_cosine() -> None:
    assert [warmup_cosine(step, 10**9, 4) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert warmup_cosine(50, 100, 0) == pytest.approx(0.5)
    assert warmup_cosine(25, 100, 10) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert warmup_cosine(100, 100, 10) == pytest.approx(0)


def test_a_constant_rate_and_a_line_after_the_rise() -> None:
    assert [constant(step, 10, 2) for step in range(4)] == [0.5, 1, 1, 1]
    assert [linear(step, 4, 0) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize(("total", "warmup"), [(20, 6), (10, 3), (7, 2)])
def test_one_cycle_is_that_of_torch(total: int, warmup: int) -> None:
    optimiser = sgd(0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 0.1, total_steps=total, pct_start=warmup / total, cycle_momentum=False
    )
    rates = []
    for _ in range(total):
        rates.append(theirs.get_last_lr()[0])
        optimiser.step()
        if len(rates) < total:
            theirs.step()
    assert [0.1 * one_cycle(step, total, warmup) for step in range(total)] == pytest.approx(rates)


def test_every_group_keeps_its_own_peak_and_steps_move_all_of_them() -> None:
    optimiser = sgd(1.0, 0.1)
    rates = LearningRates(optimiser, "linear", total=4, warmup=0)
    rates.step()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.75, 0.075])


def test_a_plateau_lowers_the_rate_after_epochs_without_a_better_score_and_again() -> None:
    optimiser = sgd(1.0)
    rates = LearningRates(optimiser, "plateau", total=100, warmup=0, factor=0.1, patience=2)
    seen = []
    for score in (0.5, 0.6, 0.6, 0.5, 0.5, 0.5, 0.7, 0.1):
        rates.after_epoch(score)
        seen.append(optimiser.param_groups[0]["lr"])
    assert seen == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_a_schedule_goes_on_where_another_stopped() -> None:
    whole, half, other = (LearningRates(sgd(1.0), "plateau", 10, 3) for _ in range(3))
    for rates in (whole, half):
        for score in (0.5, 0.4):
            rates.step()
            rates.after_epoch(score)
    other.load_state_dict(half.state_dict())
    for rates in (whole, other):
        rates.step()
        rates.after_epoch(0.3)
    assert other.state_dict() == whole.state_dict()
    assert other.optimiser.param_groups[0]["lr"] == whole.optimiser.param_groups[0]["lr"] == 0.5
