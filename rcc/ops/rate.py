"""Weigh what a whole number costs to code against the error it makes.

A value v held as the whole number q of a step s errs by (v − q s)², and takes −log₂ p(q) bits of an entropy coder, p
being the share of q among all numbers of its matrix. Where many small steps are fine, an error of s²/12 is what a
uniform error has, and a bit more divides it by four: one bit is worth (ln 2 / 6) s² of error at the margin. Rounding
that minimises error + that price · bits widens the interval that goes to zero (a dead zone), since zeros are cheap.

Source of the trade: Sullivan & Wiegand, "Rate-Distortion Optimization for Video Compression", IEEE SPM 1998; Gersho &
Gray, "Vector Quantization and Signal Compression", 1992, chapter 9, for the error and its slope at high rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BIT = math.log(2) / 6
"""Of the squared step, the error that one bit is worth at the margin, at high rate."""
_UNSEEN = 0.05
"""Times that a number is counted which does not occur, so that its code has a finite length."""


@dataclass(frozen=True)
class Rate:
    """What each whole number costs, in squared steps of error.

    Attributes:
        lengths: (2 L + 1,), bits of the code of −L … L.
        price: squared steps that a bit is worth.
    """

    lengths: Tensor
    price: float = BIT

    @property
    def levels(self) -> int:
        return (len(self.lengths) - 1) // 2

    def round(self, scaled: Tensor, dearer: Tensor | float = 1.0) -> Tensor:
        """The whole numbers for values `scaled` to a step of 1, of least error + price · bits: of a value's nearest
        number, the one next to it on the way to zero, and zero. `dearer`: factors on the price, that broadcast."""
        price, levels = self.price * dearer, self.levels
        best = scaled.round().clamp_(-levels, levels)
        cost = (scaled - best).square_().add_(price * self.lengths[(best + levels).long()])
        for tried in ((best.abs() - 1).clamp_(min=0).mul_(best.sign()), torch.zeros_like(best)):
            other = (scaled - tried).square_().add_(price * self.lengths[(tried + levels).long()])
            cheaper = other < cost
            best, cost = torch.where(cheaper, tried, best), torch.where(cheaper, other, cost)
        return best


def counts_of(whole: Tensor, levels: int, standing: Tensor | None = None) -> Tensor:
    """How often each of −levels … levels occurs in `whole`, (2 · levels + 1,), float64.

    Args:
        standing: (rows,), how many rows each of `whole` (rows, columns) stands for; by default itself.
    """
    weights = None if standing is None else standing.double()[:, None].expand_as(whole).reshape(-1)
    return torch.bincount((whole.reshape(-1) + levels).long(), weights, minlength=2 * levels + 1).double()


def code_lengths(counts: Tensor) -> Tensor:
    """−log₂ of each number's share, in bits, float32."""
    shares = counts + _UNSEEN
    return -(shares / shares.sum()).log2().float()
