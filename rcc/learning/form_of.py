"""Compute what a form allows of a latent matrix: zeros where they are, and whole numbers of steps, fixed or learned.

Gradients pass straight through the rounding (Bengio et al. 2013, arXiv:1308.3432). Steps are learned as LSQ has it
(Esser et al. 2020, arXiv:1902.08153): for w = s · round(v / s), no number beyond ± Q,

    ∂w/∂s = round(v / s) − v / s   where |v / s| < Q,   else ± Q,

times 1 / √(N Q), N being the weights that share the step. Here these are the values of a row that are not held at zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rcc.layers.grid import MOST_EXPONENT, POWERS_PER_OCTAVE, from_grid, powers, to_grid, to_powers


class FormOf(nn.Module):
    """What the form allows of a latent matrix (rows, columns), as a parametrisation of it.

    Args:
        zeros: mask of the values that are held at zero; None for none.
        step: (rows,), of whole numbers; None for values that are none. Where steps are learned it is written to.
        largest: number in magnitude.
        is_open: let gradients pass through the zeros, so that others may be chosen; the mask is then part of the state.
        storage: what learned steps must be representable in; None leaves steps as they are.

    Attributes:
        factor: (rows,), what the optimiser moves of learned steps: their ratio to what they were, so that one learning
            rate serves steps of any size.
    """

    holds_form = True
    zeros: Tensor | None
    step: Tensor | None
    start: Tensor | None
    factor: nn.Parameter | None

    def __init__(
        self,
        zeros: Tensor | None,
        step: Tensor | None,
        largest: int,
        is_open: bool = False,
        storage: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.is_open, self.largest, self.storage = is_open, largest, storage
        self.register_buffer("zeros", zeros, persistent=is_open)
        self.register_buffer("step", step, persistent=False)
        learned = step is not None and storage is not None
        self.register_buffer("start", step.clone() if step is not None and learned else None, persistent=False)
        self.factor = nn.Parameter(torch.ones_like(step)) if step is not None and learned else None
        self.as_powers = learned and to_powers(step.to(storage)) is not None  # type: ignore[union-attr]

    @classmethod
    def of(cls, module: Any, name: str, is_open: bool, storage: torch.dtype | None) -> FormOf | None:
        """What holds that matrix of a layer; None where it is absent or has nothing to hold."""
        matrix = getattr(module, name, None)
        if not isinstance(matrix, nn.Parameter):
            return None
        step = getattr(module, f"{name}_step", None)
        zeros = matrix.detach() == 0
        some = bool(zeros.any())
        if step is None and not some and not is_open:
            return None
        largest = 0 if step is None else int(to_grid(matrix.detach(), step).abs().max())
        return cls(zeros if some or is_open else None, step, largest, is_open, storage)

    def forward(self, latent: Tensor) -> Tensor:
        if self.step is None:
            assert self.zeros is not None  # what has neither a step nor zeros is not held
            return _Masked.apply(latent, self.zeros) if self.is_open else latent.masked_fill(self.zeros, 0.0)
        if self.factor is None:
            return _OnGrid.apply(latent, self.step, self.largest, self.zeros, self.is_open)  # type: ignore[no-any-return]
        self.take_steps()
        return _OnLearnedGrid.apply(  # type: ignore[no-any-return]
            latent, self.factor, self.start, self.step, self.largest, self.zeros, self.is_open
        )

    @torch.no_grad()
    def take_steps(self) -> None:
        """Write the learned steps, as they are representable, to where the layer has its steps."""
        if self.factor is not None and self.start is not None and self.step is not None:
            assert self.storage is not None
            self.step.copy_(representable(self.start * self.factor, self.storage, self.as_powers))

    def right_inverse(self, matrix: Tensor) -> Tensor:
        return matrix


def representable(steps: Tensor, storage: torch.dtype, as_powers: bool) -> Tensor:
    """The nearest numbers to `steps`, in their dtype, that are above zero and that `storage` holds; of the form
    2^(k / 8) where they are to be powers."""
    steps = steps.clamp_min(torch.finfo(storage).tiny)
    if as_powers:
        exponents = (steps.double().log2() * POWERS_PER_OCTAVE).round().clamp(-MOST_EXPONENT, MOST_EXPONENT)
        kept = powers(exponents, storage)
        if bool(((kept > 0) & torch.isfinite(kept)).all()):
            return kept.to(steps.dtype)
    return steps.clamp_max(torch.finfo(storage).max).to(storage).to(steps.dtype)


class _Masked(torch.autograd.Function):
    """Fills zeros in, and passes gradients on as if it did not."""

    @staticmethod
    def forward(context: Any, latent: Tensor, zeros: Tensor) -> Tensor:
        return latent.masked_fill(zeros, 0.0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _rounded(
    latent: Tensor, step: Tensor, largest: int, zeros: Tensor | None, is_open: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole numbers, the matrix, and the mask of the latents that no gradient is passed on to.

    In place where it can be: each new matrix costs as much as the arithmetic on it.
    """
    steps = latent / step.to(latent.dtype)[:, None]
    limit = largest + 0.5  # up to here a latent rounds to the largest number by itself
    still = (steps > limit).logical_or_(steps < -limit)
    whole = steps.round_().clamp_(-largest, largest)
    if zeros is not None:
        whole.masked_fill_(zeros, 0.0)
        if not is_open:
            still.logical_or_(zeros)
    return whole, from_grid(whole, step).to(latent.dtype), still


class _OnGrid(torch.autograd.Function):
    """Rounds to the grid, exactly: x + (q(x) − x).detach(), the usual way, is off by the rounding of its sums."""

    @staticmethod
    def forward(
        context: Any, latent: Tensor, step: Tensor, largest: int, zeros: Tensor | None, is_open: bool
    ) -> Tensor:
        _, matrix, still = _rounded(latent, step, largest, zeros, is_open)
        context.save_for_backward(still)
        return matrix

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (still,) = context.saved_tensors
        return gradients[0].masked_fill(still, 0.0), None, None, None, None


class _OnLearnedGrid(torch.autograd.Function):
    """The same, of steps that are `start` times a learned factor, to which LSQ's gradient of the steps is passed."""

    @staticmethod
    def forward(
        context: Any,
        latent: Tensor,
        factor: Tensor,
        start: Tensor,
        step: Tensor,
        largest: int,
        zeros: Tensor | None,
        is_open: bool,
    ) -> Tensor:
        whole, matrix, still = _rounded(latent, step, largest, zeros, is_open)
        scaled = latent / step.to(latent.dtype)[:, None]
        by_step = torch.where(scaled.abs() < largest, whole - scaled, largest * scaled.sign())
        shared = torch.full_like(step, latent.shape[1])
        if zeros is not None:
            by_step.masked_fill_(zeros, 0.0)
            shared = shared - zeros.sum(1)
        by_step *= (start / (shared * largest).clamp_min(1).sqrt()).to(latent.dtype)[:, None]
        context.save_for_backward(still, by_step)
        return matrix

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        still, by_step = context.saved_tensors
        return gradients[0].masked_fill(still, 0.0), (gradients[0] * by_step).sum(1), None, None, None, None, None
