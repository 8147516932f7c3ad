"""Learn one scale per output channel: hold units with scales, then descend a loss on their raw parameters."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcc.errors import WorkError
from rcc.layers.modes import differentiating, train_only
from rcc.layers.units import Unit
from rcc.learning.loop import Best, Loop
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
    with differentiating(module):
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
        losses: list[float] = []
        best = Best(lambda: {str(index): raw for index, raw in enumerate(raws)}, operator.lt)
        total = epochs * len(items)

        def measure(epoch: int, _: float = 0.0) -> None:
            losses.append(mean_loss(items, criterion))
            best.offer(epoch, losses[-1])

        def shuffled(epoch: int) -> Iterator[Item]:
            order = torch.randperm(len(items), generator=generator).tolist()
            for step, index in enumerate(order):
                progress((epoch - 1) * len(items) + step, total, "alpha steps")
                yield items[index]

        measure(0)
        optimiser = torch.optim.Adam(raws, lr=self.learning_rate)
        self.loop(raws, criterion, optimiser).fit(shuffled, epochs, measure)
        best.restore()
        progress(total, total, "alpha steps")
        return {"loss_before": losses[0], "loss_after": best.value, "losses": losses, "best_epoch": best.epoch}

    def loop(
        self, raws: Sequence[nn.Parameter], criterion: Callable[[Item], Tensor], optimiser: torch.optim.Optimizer
    ) -> Loop[Item]:
        """Steps down `criterion` and the pull together, with gradients clipped and raws clamped."""

        def pulled(item: Item) -> Tensor:
            pull = self.l2 * torch.stack([raw.square().mean() for raw in raws]).sum()
            return criterion(item) + pull

        def clamp() -> None:
            with torch.no_grad():
                for raw in raws:
                    raw.clamp_(-self.clamp, self.clamp)

        clip = partial(nn.utils.clip_grad_norm_, raws, self.clip_norm)
        return Loop(pulled, optimiser, clip=clip, after_step=(clamp,))


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
