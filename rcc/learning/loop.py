"""Train by gradient steps, epoch after epoch, and keep a copy of what was best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from rcc.errors import WorkError
from rcc.learning.precision import FULL, Precision

Item = TypeVar("Item")
Hooks = Sequence[Callable[[], object]]


class Schedule(Protocol):
    """Sets the learning rates of an optimiser, step after step."""

    def step(self) -> Any: ...


class Step(NamedTuple):
    """What one step was like: its mean loss before it, the norm of the whole gradient before clipping (NaN where
    nothing measures it), whether the parameters moved, and whether it took a second try in full precision."""

    loss: float
    norm: float
    taken: bool
    retried: bool = False


@dataclass(frozen=True)
class Loop(Generic[Item]):
    """Moves the parameters of `optimiser` down `loss`, `accumulate` items a step.

    What is trained, in which mode the model is and what an item is are the caller's: the loop sees a scalar with a
    gradient. Its parts are state that the caller holds too (optimiser, schedule, scaler), so a run can be saved
    between any two steps.

    A step is: forward and backward of each item, gradients divided by the scaler's factor, `after_backward`, `clip`,
    the optimiser's step. One whose loss or gradient is not finite moves nothing; under autocast it is tried again in
    float32 first.

    Args:
        loss: the scalar that a step goes down, penalties included, from one item of an epoch.
        optimiser: over the parameters to train.
        schedule: of the learning rate; counts steps, those that moved nothing included.
        clip: bounds the complete gradient and returns its norm before.
        after_backward: called in order when the gradients are complete and before they are clipped.
        after_step: called in order when the parameters have moved, as to clamp them.
        accumulate: items whose mean loss a step goes down; an epoch's last step takes those that are left.
        precision: in which forward passes compute.
        reduce: called when the gradients of this process are complete, to make them those of all.
        agreed: what the processes say of a number of which each has one.
        counted: tensors that a forward pass itself moves, as the running mean of a batch norm: put back where the step
            is not taken.
    """

    loss: Callable[[Item], Tensor]
    optimiser: Optimizer
    schedule: Schedule | None = None
    clip: Callable[[], Tensor] | None = None
    after_backward: Hooks = ()
    after_step: Hooks = ()
    accumulate: int = 1
    precision: Precision = FULL
    reduce: Callable[[], object] = lambda: None
    agreed: Callable[[float], float] = float
    counted: Sequence[Tensor] = ()

    def fit(
        self,
        batches: Callable[[int], Iterable[Item]],
        epochs: int,
        after_epoch: Callable[[int, float], object] = lambda epoch, loss: None,
    ) -> None:
        """Go through `batches(epoch)`, for epochs 1 to `epochs`.

        Gradients of the last step are left in place.

        Args:
            after_epoch: called with the epoch's number and the mean of its losses, as to measure the model.

        Raises:
            WorkError: a loss or a gradient is not finite, or an epoch has no items.
        """
        for epoch in range(1, epochs + 1):
            losses = []
            for step in self.steps(batches(epoch)):
                if not step.taken:
                    raise not_finite(step, epoch)
                losses.append(step.loss)
            if not losses:
                raise no_batches(epoch)
            after_epoch(epoch, sum(losses) / len(losses))

    def steps(self, items: Iterable[Item]) -> Iterator[Step]:
        """Take one step for each `accumulate` items, and say what it was like before the next one is taken."""
        group: list[Item] = []
        for item in items:
            group.append(item)
            if len(group) == self.accumulate:
                yield self.step(*group)
                group = []
        if group:
            yield self.step(*group)

    def step(self, *items: Item) -> Step:
        """One step down the mean loss of `items`."""
        before = [tensor.clone() for tensor in self.counted]
        step = self._tried(items, self.precision)
        if not step.taken and self.precision is not FULL:
            self._put_back(before)
            step = self._tried(items, FULL)._replace(retried=True)
        if not step.taken:
            self._put_back(before)
        if self.schedule is not None:
            self.schedule.step()
        for call in self.after_step:
            call()
        return step

    def _tried(self, items: Sequence[Item], precision: Precision) -> Step:
        # Before the forward pass, so that old gradients take no memory beside its activations.
        self.optimiser.zero_grad(set_to_none=True)
        losses = []
        for item in items:
            with precision.autocast():
                loss = self.loss(item)
            losses.append(loss.detach())
            precision.scaled(loss if len(items) == 1 else loss / len(items)).backward()  # type: ignore[no-untyped-call]
        self.reduce()  # before scales are told by the gradients whether they were too high, in every process alike
        precision.unscale(self.optimiser)
        for call in self.after_backward:
            call()
        norm = None if self.clip is None else self.clip()
        # Asked for only now: on an accelerator each question waits for all that was queued before it.
        value = self.agreed(sum(loss.item() for loss in losses) / len(losses))
        length = math.nan if norm is None else norm.item()
        taken = math.isfinite(value) and (norm is None or math.isfinite(length))
        precision.step(self.optimiser, taken)
        return Step(value, length, taken)

    def _put_back(self, before: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for tensor, kept in zip(self.counted, before, strict=True):
                tensor.copy_(kept)


def not_finite(step: Step, epoch: int) -> WorkError:
    """The error for a step that moved nothing."""
    what = "loss" if not math.isfinite(step.loss) else "gradient's norm"
    value = step.loss if what == "loss" else step.norm
    return WorkError(f"the training {what} became {value} in epoch {epoch}; lower learning_rate or clip_norm.")


def no_batches(epoch: int) -> WorkError:
    """The error for an epoch without a step."""
    return WorkError(
        f"epoch {epoch} has no batches: `batches(epoch)` must give its items anew at every call,"
        " and a batch be no larger than the data."
    )


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

    def offer(self, epoch: int, value: float) -> bool:
        """Copy the tensors if `value` is the first or beats the best; epoch 0 is the state before training.

        Returns:
            Whether it did.
        """
        if self.epoch is not None and not self.better(value, self.value):
            return False
        self.epoch, self.value = epoch, value
        self.kept = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        return True

    def restore(self) -> None:
        """Copy what was best back in place, so that parameters stay the same objects."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(self.kept[name])
