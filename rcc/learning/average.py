"""Keep a moving average of the weights while they are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of a module's trained parameters, one copy of them.

    Buffers are not averaged. Early on the decay is (1 + n) / (10 + n) after n steps where that is less, so that the
    first values are soon forgotten, as `tf.train.ExponentialMovingAverage` has it.

    Args:
        decay: what is kept of the average at each step, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._of = {name: each for name, each in module.named_parameters() if each.requires_grad}
        self._kept = [each.detach().clone() for each in self._of.values()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters as they are now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._kept, list(self._of.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters be the average while the block runs. Nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def tensors(self) -> dict[str, Tensor]:
        """The average of each parameter by its name."""
        return dict(zip(self._of, self._kept, strict=True))

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Go on from an average of the same parameters."""
        self.steps = steps
        for name, kept in self.tensors().items():
            kept.copy_(tensors[name])

    def _swap(self) -> None:
        for index, parameter in enumerate(self._of.values()):
            parameter.data, self._kept[index] = self._kept[index], parameter.data
