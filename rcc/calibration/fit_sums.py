"""Means and covariances of the rows at a layer, summed batch by batch.

Sums are of what deviates from the mean of the first rows, c: with o = E[a] − c the covariance is E[(a − c)(b − c')ᵀ]
− o o'ᵀ. The rows that c is the mean of make o² at most n / n₁ times the variance, so that little of it is lost, unlike
in E[a bᵀ] − E[a] E[b]ᵀ of inputs that hardly vary about a large mean (Chan, Golub & LeVeque 1983).

A grouped convolution has rows for each of its groups, (groups, n, size): their means and covariances are by group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.groups import add_product_, diagonal
from rcc.ops.symmetric import add_gram_, mirror_


class Rows:
    """Rows of `size` values, taken in part by part: their mean, and what is `new` in the last part.

    groups: None where there is one row for all, else for how many groups each has a row of its own.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device, groups: int | None = None) -> None:
        shape = (size,) if groups is None else (groups, size)
        self.count = 0
        self._shift = torch.zeros(shape, dtype=dtype, device=device)
        self._total = torch.zeros(shape, dtype=torch.float64, device=device)
        self.new = self._shift[..., None, :0]

    def take(self, rows: Tensor) -> None:
        """Take `rows` ([groups,] n, size) in; `new` is then what they deviate from the mean of the first ones."""
        number = rows.shape[-2]
        if self.count == 0 and number:
            self._shift = rows.mean(-2, dtype=torch.float64).to(self._shift)
        self.new = rows.to(self._shift) - self._shift[..., None, :]
        self.count += number
        # Of groups there are many values and few to a sum's row: in float64 this alone would take a third of the time.
        self._total += self.new.sum(-2, dtype=torch.float64 if self.new.dim() == 2 else None)

    @property
    def offset(self) -> Tensor:
        """The mean's difference to that of the first rows, ([groups,] size), float64."""
        return self._total / max(1, self.count)

    @property
    def mean(self) -> Tensor:
        """([groups,] size), in the dtype of the computation."""
        return (self._shift + self.offset).to(self._shift.dtype)


class Covariance:
    """Of two kinds of rows, (left, right); of one kind with itself where `left` is `right`."""

    def __init__(self, left: Rows, right: Rows) -> None:
        self.left, self.right = left, right
        mean = left.mean
        self._sum = torch.zeros(*mean.shape, right.mean.shape[-1], dtype=mean.dtype, device=mean.device)

    def add(self) -> None:
        """Add the products of the rows that are new on both sides."""
        if self.left is self.right:
            add_gram_(self._sum, self.right.new, 1.0)
        else:
            add_product_(self._sum, self.left.new.mT, self.right.new)

    def done(self) -> Tensor:
        """The covariance, in the memory of the sums: nothing can be added any more."""
        left, right = (rows.offset.to(self._sum) for rows in (self.left, self.right))
        covariance = self._sum.div_(max(1, self.right.count))
        covariance.addcmul_(left[..., :, None], right[..., None, :], value=-1)
        if self.left is self.right:
            # An input that is constant may have less than nothing left, by rounding.
            diagonal(mirror_(covariance)).clamp_min_(0)
        return covariance
