"""Budget the values a pair may hold: layer by layer, or under one budget of many layers, spent where it helps most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rcc.ops.factorise import Rank, kept_energy, rank_by_energy, select_rank
from rcc.ops.ranks import allocate_ranks
from rcc.stages.dare.plan import pools_by_scope

BOUNDS = ("energy", "share", "allocation")
"""What may bind a rank."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class RankRule:
    """What bounds a unit's rank.

    share: of its m n parameters, that its new form may hold; None: energy alone decides.
    energy: share of the squared singular values to keep, or None.
    of: 'weight', 'residual' or 'joint'; `sparse_share`: for the last, S's part of what `share` leaves.
    """

    share: float | None
    energy: float | None
    of: str
    sparse_share: float

    def kept_beside(self, shape: tuple[int, int], nonzeros: int) -> int:
        """Values that S holds beside the pair; `nonzeros` it has as it stands."""
        if self.of == "joint":
            assert self.share is not None
            return math.floor(self.sparse_share * self.share * shape[0] * shape[1] * (1 + _ROUNDING))
        return nonzeros if self.of == "residual" else 0

    def room(self, shape: tuple[int, int], nonzeros: int) -> float | None:
        """Values that the pair may hold; below 0 where S alone is over the share."""
        if self.share is None:
            return None
        return self.share * shape[0] * shape[1] - self.kept_beside(shape, nonzeros)

    def most(self, shape: tuple[int, int], nonzeros: int) -> int | None:
        """The largest rank by share, None where that rule is off; a pair alone has one rank at least."""
        room = self.room(shape, nonzeros)
        if room is None:
            return None
        return max(0 if self.of == "residual" else 1, math.floor(room / sum(shape) * (1 + _ROUNDING)))

    def rank(self, values: Tensor, shape: tuple[int, int], nonzeros: int, allocated: int | None = None) -> Rank:
        """The rank of a unit whose best weights have these singular values, and which of `BOUNDS` bound it."""
        if allocated is None:
            room = self.room(shape, nonzeros)
            return select_rank(values, shape, self.energy, None if room is None else room / math.prod(shape))
        bound = "allocation"
        if self.energy is not None and (by_energy := rank_by_energy(values, self.energy)) <= allocated:
            allocated, bound = by_energy, "energy"
        return Rank(allocated, bound, kept_energy(values, allocated))


@dataclass(frozen=True)
class Spectrum:
    """What a unit's pair could keep: singular values (k,) descending, and the energy that its errors are relative to.

    nonzeros: of the S that would stay beside it.
    """

    name: str
    tower: str
    shape: tuple[int, int]
    nonzeros: int
    values: Tensor
    energy: float


def allocated(spectra: Sequence[Spectrum], rule: RankRule, scope: str) -> dict[str, int]:
    """The rank of each unit by name, such that the sum of relative output errors is least under one budget.

    The budget is what the rule's share leaves of all units' parameters, those of one tower by themselves for scope
    'tower'. As many values as the spectrum has mean that the unit is best left dense. What is beyond the energy
    to be kept counts for nothing.

    Raises:
        ValueError: the budget is below a rank of one in every layer, with what that takes.
    """
    ranks: dict[str, int] = {}
    for pool in pools_by_scope(spectra, scope):
        budget, values, dense = 0.0, [], []
        for one in pool:
            budget += rule.room(one.shape, one.nonzeros) or 0.0
            wanted = one.values.clone()
            if rule.energy is not None:
                wanted[rank_by_energy(one.values, rule.energy) :] = 0
            values.append(wanted)
            # Beside an S there is no dense weight to fall back on: a pair of full rank takes its factors.
            most = sum(one.shape) * wanted.numel()
            dense.append(math.prod(one.shape) if rule.of == "weight" else most)
        found = allocate_ranks(
            values,
            [one.energy for one in pool],
            [sum(one.shape) for one in pool],
            dense,
            math.floor(budget * (1 + _ROUNDING)),
        )
        ranks |= {one.name: rank for one, rank in zip(pool, found, strict=True)}
    return ranks
