"""Prune while training: hold more and more values at zero, chosen anew every few steps, until a share is reached.

The share of zeros rises along a cubic (Zhu and Gupta 2017, arXiv:1710.01878): s(t) = s₁ + (s₀ − s₁)(1 − t)³. What the
optimiser moves stays dense, and gradients pass straight through the zeros, so that a value may come back (Lin et al.
2020, arXiv:2006.07253) until the last choice is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rcc.errors import WorkError
from rcc.learning.callback import Callback
from rcc.learning.checkpoint import parts_of
from rcc.learning.held import Held
from rcc.learning.loop import Step
from rcc.ops.select import select_smallest

if TYPE_CHECKING:
    from rcc.learning.trainer import CompressionTrainer

GRADIENT, MAGNITUDE = "gradient", "magnitude"
SCORES = (GRADIENT, MAGNITUDE)


class GradualSparsity(Callback):
    """Holds a share of the values of the prunable matrices at zero that rises to `target`, reached exactly.

    Those that are zero when it begins count, and are the first to be taken; the share never falls below theirs.

    Args:
        holding: of a model some of whose matrices may be pruned: see `rcc.learning.held.held`.
        score: 'gradient': |value × gradient|, by what the optimiser remembers of the gradient, over all matrices
            together; 'magnitude': |value|, of each matrix by itself.
        every: steps between two choices.
        until: share of all steps by which the target is reached.

    Attributes:
        done: whether the last choice was made.
    """

    def __init__(self, holding: Held, target: float, score: str = GRADIENT, every: int = 1, until: float = 1.0) -> None:
        self.masks = list(holding.prunable())
        self.target, self.score, self.every, self.until = target, score, every, until
        self.done = False
        self._zeros = [int(mask.sum()) for _, mask in self.masks]
        self._release = holding.stop_pruning

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        assert trainer.scheduler is not None
        last = max(1, round(self.until * trainer.scheduler.total))
        now = trainer.global_step
        if self.done or (now % self.every and now < last):
            return
        self._choose(trainer.optimizer, min(1.0, now / last))
        if now >= last:
            self._finish()

    def state_dict(self) -> dict[str, Any]:
        """The masks are the model's own, which is in the checkpoint as well."""
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["done"]:
            self._finish()

    def _finish(self) -> None:
        self.done = True
        self._release()

    @torch.no_grad()
    def _choose(self, optimiser: Optimizer, progress: float) -> None:
        """Take the values of least score for zeros, as many as the cubic asks for at `progress` in [0, 1]."""
        pools = [range(len(self.masks))] if self.score == GRADIENT else [(place,) for place in range(len(self.masks))]
        for pool in pools:
            numel, zeros = (sum(counts[place] for place in pool) for counts in (self._sizes, self._zeros))
            share = self.target + (zeros / numel - self.target) * (1 - progress) ** 3
            count = max(zeros, round(share * numel))
            chosen = select_smallest(list(self._scores(optimiser, pool)), count)
            for place, mask in zip(pool, chosen, strict=True):
                self.masks[place][1].copy_(mask)

    @property
    def _sizes(self) -> list[int]:
        return [mask.numel() for _, mask in self.masks]

    def _scores(self, optimiser: Optimizer, pool: Sequence[int]) -> Iterator[Tensor]:
        for place in pool:
            latent = self.masks[place][0]
            if self.score == MAGNITUDE:
                yield latent.detach()
                continue
            yield (latent * remembered_gradient(optimiser, latent)).abs_()


def remembered_gradient(optimiser: Optimizer, parameter: Tensor) -> Tensor:
    """What an optimiser knows of the size of a parameter's gradient over its last steps, up to a factor of its own:
    the root of AdamW's second moment, the momentum of SGD and Muon; of one that keeps neither, the last gradient.

    Raises:
        WorkError: there is none.
    """
    states = (part.state[parameter] for part in parts_of(optimiser) if parameter in part.state)
    kept: Mapping[str, Tensor] = next(states, {})
    if "exp_avg_sq" in kept:
        return kept["exp_avg_sq"].sqrt()
    if kept.get("momentum_buffer") is not None:
        return kept["momentum_buffer"]
    if parameter.grad is None:
        raise WorkError(
            f"a matrix {tuple(parameter.shape)} that is to be pruned by its gradient has none: the loss does not depend"
            " on it. Take score=magnitude, or exclude its layer."
        )
    return parameter.grad
