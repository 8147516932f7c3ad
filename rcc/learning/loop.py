"""Train by gradient steps, epoch after epoch, and keep a copy of what was best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rcc.errors import WorkError

Item = TypeVar("Item")
Hooks = Sequence[Callable[[], object]]


@dataclass(frozen=True)
class Loop(Generic[Item]):
    """Moves the parameters of `optimiser` down `loss`, one batch a step.

    What is trained, in which mode the model is and what an item is are the caller's: the loop sees a scalar with a
    gradient. Its parts are state that the caller holds too (optimiser, schedule), so a run can be saved between any
    two steps.

    Args:
        loss: the scalar that a step goes down, penalties included, from one item of an epoch.
        optimiser: over the parameters to train.
        schedule: of the learning rate; counts optimiser steps.
        after_backward: called in order when the gradients are complete and before the step, as to clip them.
        after_step: called in order when the parameters have moved, as to clamp them.
    """

    loss: Callable[[Item], Tensor]
    optimiser: Optimizer
    schedule: LRScheduler | None = None
    after_backward: Hooks = ()
    after_step: Hooks = ()

    def fit(
        self,
        batches: Callable[[int], Iterable[Item]],
        epochs: int,
        after_epoch: Callable[[int, float], object] = lambda epoch, loss: None,
    ) -> None:
        """Take one step for each item of `batches(epoch)`, for epochs 1 to `epochs`.

        Gradients of the last step are left in place.

        Args:
            after_epoch: called with the epoch's number and the mean of its losses, as to measure the model.

        Raises:
            WorkError: a loss is not finite, or an epoch has no items.
        """
        for epoch in range(1, epochs + 1):
            losses = [self.step(item, epoch) for item in batches(epoch)]
            if not losses:
                raise WorkError(
                    f"epoch {epoch} has no batches: `batches(epoch)` must give its items anew at every call,"
                    " and a batch be no larger than the data."
                )
            after_epoch(epoch, sum(losses) / len(losses))

    def step(self, item: Item, epoch: int) -> float:
        """One step, in epoch `epoch`; the loss before it.

        Raises:
            WorkError: the loss is not finite; the parameters are then those before the step.
        """
        # Before the forward pass, so that old gradients take no memory beside its activations.
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(item)
        value = loss.item()
        if not math.isfinite(value):
            raise WorkError(f"the training loss became {value} in epoch {epoch}; lower learning_rate or clip_norm.")
        loss.backward()  # type: ignore[no-untyped-call]
        for call in self.after_backward:
            call()
        self.optimiser.step()
        if self.schedule is not None:
            self.schedule.step()
        for call in self.after_step:
            call()
        return value


@dataclass
class Best:
    """Keeps a copy of the tensors at the epoch whose value was best.

    Args:
        tensors: what to copy, asked for at each copy since modules may replace their tensors: `module.state_dict`.
        better: whether a new value (first) beats the best so far (second): `operator.ge` for scores of which the later
            of equals is wanted, `operator.lt` for losses of which the earlier is.
    """

    tensors: Callable[[], Mapping[str, Tensor]]
    better: Callable[[float, float], bool]
    value: float = math.nan
    epoch: int | None = None
    kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def offer(self, epoch: int, value: float) -> None:
        """Copy the tensors if `value` is the first or beats the best; epoch 0 is the state before training."""
        if self.epoch is None or self.better(value, self.value):
            self.epoch, self.value = epoch, value
            self.kept = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    def restore(self) -> None:
        """Copy what was best back in place, so that parameters stay the same objects."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(self.kept[name])
