"""The training loop: the order of a step's parts, batches by epoch, what stops it, and which epoch is kept."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.units import find_units
from rcc.learning.held import held
from rcc.learning.loop import Best, Loop
from rcc.learning.precision import Precision


def scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def test_it_computes_what_the_same_steps_written_out_compute() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 2), nn.Linear(4, 2)
    theirs.load_state_dict(ours.state_dict())
    data = [(torch.randn(8, 4), torch.randn(8, 2)) for _ in range(3)]

    def made(module: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimiser = torch.optim.AdamW(module.parameters(), 0.1)
        return optimiser, torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9)

    optimiser, schedule = made(ours)
    clip = partial(nn.utils.clip_grad_norm_, list(ours.parameters()), 0.5)
    told: list[tuple[int, float]] = []
    loop = Loop(lambda pair: F.mse_loss(ours(pair[0]), pair[1]), optimiser, schedule, clip=clip)
    loop.fit(lambda epoch: data, 2, lambda *call: told.append(call))

    optimiser, schedule = made(theirs)
    losses = []
    for x, y in data * 2:
        optimiser.zero_grad()
        loss = F.mse_loss(theirs(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    assert told == [(1, pytest.approx(sum(losses[:3]) / 3)), (2, pytest.approx(sum(losses[3:]) / 3))]


def test_a_step_calls_its_parts_in_order_and_sees_gradients_before_and_moved_values_after() -> None:
    subject, seen = scalar(1.0), []
    loop = Loop[None](
        lambda _: 3 * subject,
        torch.optim.SGD([subject], 1.0),
        after_backward=(lambda: seen.append(("gradient", subject.grad.item(), subject.item())), lambda: seen.append(2)),
        after_step=(lambda: seen.append(("moved", subject.item())), lambda: seen.append(4)),
    )
    assert loop.step(None)[::2] == (3.0, True)
    assert seen == [("gradient", 3.0, 1.0), 2, ("moved", -2.0), 4]


def test_gradients_of_one_step_do_not_add_to_those_of_the_next() -> None:
    subject = scalar(0.0)
    loop = Loop[float](lambda slope: slope * subject, torch.optim.SGD([subject], 1.0))
    loop.fit(lambda epoch: [1.0, 10.0], 1)
    assert subject.item() == -11.0
    assert subject.grad.item() == 10.0


def test_every_epoch_asks_for_its_own_items_one_at_a_time() -> None:
    subject, order = scalar(0.0), []

    def items(epoch: int) -> Iterator[int]:
        for index in range(2):
            order.append(("given", epoch, index))
            yield index

    loop = Loop[int](lambda _: subject * 1, torch.optim.SGD([subject], 1.0), after_step=(lambda: order.append("step"),))
    loop.fit(items, 2, lambda epoch, loss: order.append(("epoch", epoch)))
    one = [("given", 1, 0), "step", ("given", 1, 1), "step", ("epoch", 1)]
    assert order == [*one, ("given", 2, 0), "step", ("given", 2, 1), "step", ("epoch", 2)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_parameters_move(value: float) -> None:
    subject = scalar(1.0)
    loop = Loop[float](lambda factor: (subject + 1) * factor, torch.optim.SGD([subject], 1.0))
    with pytest.raises(WorkError, match=f"became {value} in epoch 2; lower learning_rate or clip_norm"):
        loop.fit(lambda epoch: [1.0] if epoch == 1 else [value], 3)
    assert subject.item() == 0.0


def test_an_iterator_that_was_used_up_in_the_first_epoch_is_named() -> None:
    subject = scalar(1.0)
    once = iter([1.0, 2.0])
    with pytest.raises(WorkError, match="epoch 2 has no batches: `batches"):
        Loop[float](lambda factor: subject * factor, torch.optim.SGD([subject], 1.0)).fit(lambda epoch: once, 2)


@pytest.mark.parametrize(
    ("better", "values", "epoch"),
    [
        (operator.ge, [0.1, 0.9, 0.3, 0.9, 0.2], 3),
        (operator.gt, [0.1, 0.9, 0.3, 0.9, 0.2], 1),
        (operator.lt, [0.5, 0.5, 0.7], 0),
        (operator.le, [0.5, 0.5, 0.7], 1),
    ],
)
def test_the_best_is_that_of_the_comparison_and_equals_go_by_it(
    better: Callable[[float, float], bool], values: list[float], epoch: int
) -> None:
    subject = scalar(0.0)
    best = Best(lambda: {"subject": subject}, better)
    for number, value in enumerate(values):
        with torch.no_grad():
            subject.fill_(number)
        best.offer(number, value)
    best.restore()
    assert (best.epoch, best.value, subject.item()) == (epoch, values[epoch], epoch)


def test_the_best_is_restored_in_place_buffers_included() -> None:
    module = nn.BatchNorm1d(3)
    parameter, expected = module.weight, copy.deepcopy(module.state_dict())
    best = Best(module.state_dict, operator.lt)
    best.offer(0, 1.0)
    module(torch.randn(8, 3))
    with torch.no_grad():
        module.weight.add_(1)
    best.restore()
    assert module.weight is parameter
    assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


def test_a_held_layer_keeps_its_zeros_through_the_loop_and_through_the_best() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4))
    (unit,) = find_units(module)
    zeros = torch.rand(4, 6) < 0.5
    unit.write(Form(sparse=unit.read().sparse.masked_fill(zeros, 0.0), bias=unit.read().bias))
    x, y = torch.randn(16, 6), torch.randn(16, 4)

    def loss(_: object) -> Tensor:
        return F.mse_loss(module(x), y)

    before = loss(None).item()
    with held(module):
        best = Best(module.state_dict, operator.lt)
        loop = Loop(loss, torch.optim.AdamW(module.parameters(), 0.05))
        loop.fit(lambda epoch: range(5), 4, best.offer)
        best.restore()
    assert best.epoch == 4
    assert loss(None).item() < before
    assert torch.equal(unit.read().sparse == 0, zeros)


def test_accumulated_batches_move_as_their_union_and_the_last_step_takes_what_is_left() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 1), nn.Linear(3, 1)
    other.load_state_dict(one.state_dict())
    parts = list(torch.randn(5, 4, 3))

    def loop(module: nn.Module, accumulate: int) -> Loop[Tensor]:
        optimiser = torch.optim.SGD(module.parameters(), 0.1)
        return Loop(lambda x: module(x).square().mean(), optimiser, accumulate=accumulate)

    steps = list(loop(one, 2).steps(parts))
    whole = list(loop(other, 1).steps([torch.cat(parts[:2]), torch.cat(parts[2:4]), parts[4]]))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in whole])
    torch.testing.assert_close(one.weight, other.weight)


class Scaled(GradScaler):
    """A scaler of gradients on the CPU that notes what it is asked, in order."""

    def __init__(self, seen: list[object]) -> None:
        super().__init__("cpu", init_scale=8.0)
        self.seen = seen

    def unscale_(self, optimiser: torch.optim.Optimizer) -> None:
        super().unscale_(optimiser)
        self.seen.append("unscale")

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        super().step(optimiser)
        self.seen.append("step")

    def update(self) -> None:
        super().update()
        self.seen.append("update")


def test_gradients_are_unscaled_then_clipped_then_stepped_on() -> None:
    subject, seen = scalar(1.0), []

    def clip() -> Tensor:
        seen.append(("clip", subject.grad.item()))
        return torch.nn.utils.clip_grad_norm_([subject], 1.0)

    optimiser = torch.optim.SGD([subject], 1.0)
    loop = Loop[None](lambda _: 3 * subject, optimiser, clip=clip, precision=Precision("cpu", None, Scaled(seen)))
    step = loop.step(None)
    assert seen == ["unscale", ("clip", 3.0), "step", "update"]
    assert (step.loss, step.norm, step.taken) == (3.0, 3.0, True)
    assert subject.item() == pytest.approx(0.0, abs=1e-5)


def test_a_step_that_is_not_finite_under_autocast_is_tried_again_without_and_the_scale_falls() -> None:
    subject, seen = scalar(1.0), []
    scaler = Scaled(seen)

    def loss(_: None) -> Tensor:
        return subject * (float("inf") if torch.is_autocast_enabled("cpu") else 2.0)

    clip = partial(nn.utils.clip_grad_norm_, [subject], 10.0)
    optimiser = torch.optim.SGD([subject], 0.25)
    precision = Precision("cpu", torch.bfloat16, scaler)
    step = Loop[None](loss, optimiser, clip=clip, precision=precision).step(None)
    assert (step.loss, step.taken, step.retried, subject.item()) == (2.0, True, True, 0.5)
    assert scaler.get_scale() == 4.0


def test_a_step_that_is_left_out_moves_neither_parameters_nor_what_batch_norms_count() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = copy.deepcopy(module.state_dict())
    counted = [module[1].running_mean, module[1].running_var, module[1].num_batches_tracked]
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    loop = Loop[Tensor](lambda x: module(x).sum(), optimiser, counted=counted)
    (step,) = loop.steps([torch.full((4, 2), float("nan"))])
    assert not step.taken
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
