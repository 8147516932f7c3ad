"""Scales that learn: units held with one per output channel, and the loop that finds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcc.errors import WorkError
from rcc.layers.modes import evaluating, train_only
from rcc.layers.units import Unit
from rcc.ops.scale import to_raw, to_scale

Item = TypeVar("Item")


class _TwoSigmoid(nn.Module):
    """Computes a scale from its raw parameter; setting the scale sets the raw parameter."""

    def forward(self, raw: Tensor) -> Tensor:
        return to_scale(raw)

    def right_inverse(self, scale: Tensor) -> Tensor:
        return to_raw(scale)


@contextmanager
def learnable_scales(module: nn.Module, units: Sequence[Unit]) -> Iterator[dict[str, nn.Parameter]]:
    """Inside, each unit's outputs are multiplied by 2 sigmoid(raw); the raws, by unit name, alone can learn.

    Every raw starts at 0, the identity. Weights are shared, not copied. The model is in evaluation mode.
    Afterwards the units are what they were, unscaled: folding is the caller's. A scale that a unit already
    had is folded first.
    """
    with evaluating(module):
        raws: dict[str, nn.Parameter] = {}
        try:
            for unit in units:
                form = unit.read().folded()
                like = next(matrix for _, matrix in form.matrices())
                unit.write(replace(form, scale=torch.ones(unit.shape[0], dtype=like.dtype, device=like.device)))
                raws[unit.name] = _learnable(unit)
            train_only(module, raws.values())
            yield raws
        finally:
            for unit in units:
                learning = [held for held in unit.modules() if parametrize.is_parametrized(held, "scale")]
                for held in learning:
                    # Leaving the scale in place of raw would overwrite raw, which the caller folds.
                    parametrize.remove_parametrizations(held, "scale", leave_parametrized=False)
                if learning:
                    unit.write(replace(unit.read(), scale=None))


def _learnable(unit: Unit) -> nn.Parameter:
    """Let the unit's scale be computed from a raw parameter, one for all modules that share its weight."""
    first, *others = unit.modules()
    for other in others:  # registering writes raw into the memory of the scale, which all of them share
        other.register_parameter("scale", nn.Parameter(other.get_parameter("scale").detach().clone()))
    for module in (first, *others):
        parametrize.register_parametrization(module, "scale", _TwoSigmoid())
    raw = first.get_parameter("parametrizations.scale.original")
    for other in others:
        other.get_submodule("parametrizations.scale").register_parameter("original", raw)
    return raw


@dataclass(frozen=True)
class ScaleLearner:
    """Adam on raw parameters against a loss, with clipped gradients, a pull to the identity, and a clamp.

    The pull is l2 · Σ over the layers of mean(raw²): smooth at the identity, unlike a norm, and no stronger in a
    wide layer than in a narrow one, as the loss's own gradient is not.
    """

    learning_rate: float
    l2: float
    clip_norm: float
    clamp: float

    def learn(
        self,
        raws: Sequence[nn.Parameter],
        items: Sequence[Item],
        criterion: Callable[[Item], Tensor],
        epochs: int,
        generator: torch.Generator | None = None,
        progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> dict[str, Any]:
        """Minimise the mean of `criterion(item)`, one item a step in an order drawn from `generator`.

        `raws` are left where that mean over all items, without the pull, was lowest; it is measured before
        the first epoch and after each, so that it never ends above where it began.

        Returns:
            'loss_before', 'loss_after', 'losses' (before, then after each epoch), 'best_epoch' (0: before).

        Raises:
            WorkError: a loss is not finite.
        """
        optimizer = torch.optim.Adam(raws, lr=self.learning_rate)
        best = [raw.detach().clone() for raw in raws]
        losses = [mean_loss(items, criterion)]
        total = epochs * len(items)
        for epoch in range(epochs):
            order = torch.randperm(len(items), generator=generator).tolist()
            for step, index in enumerate(order):
                progress(epoch * len(items) + step, total, "alpha steps")
                self.step(optimizer, raws, criterion(items[index]))
            losses.append(mean_loss(items, criterion))
            if losses[-1] < min(losses[:-1]):
                best = [raw.detach().clone() for raw in raws]
        with torch.no_grad():
            for raw, value in zip(raws, best, strict=True):
                raw.copy_(value)
        progress(total, total, "alpha steps")
        lowest = min(losses)
        return {
            "loss_before": losses[0],
            "loss_after": lowest,
            "losses": losses,
            "best_epoch": losses.index(lowest),
        }

    def step(self, optimizer: torch.optim.Optimizer, raws: Sequence[nn.Parameter], loss: Tensor) -> None:
        """One step down `loss` and the pull together: backward, clip, step, clamp."""
        optimizer.zero_grad()
        pull = self.l2 * torch.stack([raw.square().mean() for raw in raws]).sum()
        (loss + pull).backward()
        nn.utils.clip_grad_norm_(raws, self.clip_norm)
        optimizer.step()
        with torch.no_grad():
            for raw in raws:
                raw.clamp_(-self.clamp, self.clamp)


def mean_loss(items: Sequence[Item], criterion: Callable[[Item], Tensor]) -> float:
    """Mean of `criterion` over the items, without gradients.

    Raises:
        WorkError: a loss is not finite; the message says on which item.
    """
    values = []
    for number, item in enumerate(items):
        with torch.no_grad():
            values.append(float(criterion(item)))
        if not math.isfinite(values[-1]):
            problem = f"the loss is {values[-1]} on calibration batch {number}"
            raise WorkError(f"{problem}: lower learning_rate or check the batch.")
    return math.fsum(values) / len(values)
