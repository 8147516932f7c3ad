"""Allocate the ranks of many layers under one budget of bytes: the least sum of relative output errors.

A layer of singular values σ (in whatever metric) and energy E has the relative error (E − Σ_{i ≤ r} σᵢ²) / E at rank r.
Its next rank is worth σ²ᵣ₊₁ / E for the bytes of one rank, and since the values descend, never more than the one
before: the curve of error against bytes is convex. Leaving the layer dense is one more point, at which nothing
of the weight is lost; the lower hull of curve and point is convex again. Taking the steps of all hulls in the order
of what they are worth per byte is then the optimum for exactly the bytes taken (Fox 1966, "Discrete
optimization via marginal analysis"): every step left out is worth less per byte than every step taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def allocate_ranks(
    values: Sequence[Tensor],
    energies: Sequence[float],
    costs: Sequence[int],
    dense: Sequence[int],
    budget: int,
    least: int = 1,
) -> list[int]:
    """The rank of every layer; full rank, min(out, in), means that it stays dense.

    Args:
        values: singular values (min(out, in),) of each layer, descending, as `Whitened.values`.
        energies: E‖y‖² of each layer, by which its error counts; the values of a layer of energy 0 count nothing.
        costs: bytes of one rank, (out + in) · itemsize.
        dense: bytes of the layer left dense, which is what it takes at full rank (or the factors, if less).
        budget: bytes in all, never exceeded.
        least: the rank that every layer gets at least.

    The result is exact but for the granularity of steps: its error is above the optimum by less than what one
    step is worth, the first that did not fit, and no further rank of any layer would fit. Costs one sort.

    Raises:
        ValueError: lists of different lengths, a `least` below 1, a cost that is not positive, or a budget too small
            for the least ranks, with what they take.
    """
    if not len(values) == len(energies) == len(costs) == len(dense):
        raise ValueError(f"{len(values)} layers, {len(energies)} energies, {len(costs)} and {len(dense)} costs")
    if least < 1 or any(cost < 1 for cost in (*costs, *dense)):
        raise ValueError("a least rank and costs of 1 or more are needed")
    curves = [
        _Curve(tensor, energy, cost, min(whole, cost * tensor.numel()), least)
        for tensor, energy, cost, whole in zip(values, energies, costs, dense, strict=True)
    ]
    ranks = [curve.first for curve in curves]
    left = budget - sum(curve.bytes_of(rank) for curve, rank in zip(curves, ranks, strict=True))
    if left < 0:
        raise ValueError(
            f"a budget of {budget} is below the {budget - left} that a rank of {least} in every layer takes"
        )
    if not curves:
        return ranks
    gains = torch.cat([curve.hull_gains for curve in curves])
    sizes = torch.cat([curve.hull_sizes for curve in curves])
    owners = torch.cat([torch.full_like(curve.hull_sizes, place) for place, curve in enumerate(curves)])
    # Stable, and a layer's own steps stand in order: on ties its lower ranks, and earlier layers, go first.
    order = gains.argsort(descending=True, stable=True)
    taken = order[sizes[order].cumsum(0) <= left]
    left -= int(sizes[taken].sum())
    for place, count in enumerate(owners[taken].bincount(minlength=len(curves)).tolist()):
        ranks[place] = curves[place].after(count)
    return _filled(curves, ranks, left)


def _filled(curves: Sequence[_Curve], ranks: list[int], left: int) -> list[int]:
    """Spend what is left on single further steps, the best per byte that fits each time."""
    steps = [curve.next_step(rank, left) for curve, rank in zip(curves, ranks, strict=True)]
    while True:
        best = max(range(len(curves)), key=lambda place: steps[place].worth)
        step = steps[best]
        if step.size > left or step.size == 0:
            return ranks
        ranks[best] = step.rank
        left -= step.size
        steps = [
            curve.next_step(rank, left) if place == best or steps[place].size > left else steps[place]
            for place, (curve, rank) in enumerate(zip(curves, ranks, strict=True))
        ]


@dataclass(frozen=True)
class _Step:
    """To `rank`, for `size` bytes, at `worth` of relative error per byte; size 0 where there is none."""

    rank: int
    size: int
    worth: float


@dataclass(frozen=True)
class _Curve:
    """Relative error against bytes of one layer, from its least rank on."""

    values: Tensor
    energy: float
    cost: int
    dense: int
    least: int

    @property
    def full(self) -> int:
        return self.values.numel()

    @cached_property
    def last(self) -> int:
        """The largest rank whose factors take less than the dense layer; 0 where not even one does."""
        return (self.dense - 1) // self.cost

    @property
    def first(self) -> int:
        return self.least if self.least <= self.last else self.full

    def bytes_of(self, rank: int) -> int:
        return self.dense if rank == self.full else rank * self.cost

    @cached_property
    def gains(self) -> Tensor:
        """Of each rank, (full,): by how much it lowers the relative error, float64."""
        squares = self.values.detach().to("cpu", torch.float64).square()
        return squares / self.energy if self.energy > 0 else torch.zeros_like(squares)

    @cached_property
    def tails(self) -> Tensor:
        """The error that is left to gain at each rank 0 … full, (full + 1,), summed from the small end."""
        return torch.cat([self.gains.flip(0).cumsum(0).flip(0), self.gains.new_zeros(1)])

    @cached_property
    def leave(self) -> int:
        """The rank at which the lower hull leaves the curve for the dense point: where the line is flattest."""
        if self.first == self.full:
            return self.full
        ranks = torch.arange(self.first, self.last + 1)
        return self.first + int((self.tails[ranks] / (self.dense - ranks * self.cost)).argmin())

    @property
    def hull_gains(self) -> Tensor:
        """Error gained per byte by each step of the hull: single ranks up to `leave`, then all the rest at once."""
        if self.first == self.full:
            return self.gains[:0]
        jump = self.tails[self.leave] / (self.dense - self.leave * self.cost)
        # Rounding must not put a step before the one it builds on.
        return torch.cat([self.gains[self.first : self.leave] / self.cost, jump[None]]).cummin(0).values

    @property
    def hull_sizes(self) -> Tensor:
        """Bytes of each of those steps, int64."""
        if self.first == self.full:
            return torch.zeros(0, dtype=torch.int64)
        sizes = torch.full((self.leave - self.first + 1,), self.cost)
        sizes[-1] = self.dense - self.leave * self.cost
        return sizes

    def after(self, count: int) -> int:
        """The rank after `count` steps of the hull."""
        return self.full if count > self.leave - self.first else self.first + count

    def next_step(self, rank: int, left: int) -> _Step:
        """The better per byte of one more rank and of the dense layer, of those that take at most `left`."""
        found = _Step(rank, 0, -1.0)
        if rank < self.last and self.cost <= left:
            found = _Step(rank + 1, self.cost, float(self.gains[rank]) / self.cost)
        size = self.dense - rank * self.cost
        if rank < self.full and size <= left and float(self.tails[rank]) / size > found.worth:
            found = _Step(self.full, size, float(self.tails[rank]) / size)
        return found
