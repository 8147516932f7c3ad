"""Compare the outputs of two models item by item: whether the one is the other, but for rounding.

Cosines alone prove little: of an untrained CLIP different images have cosines of 0.99. So items are also compared about
their mean, and each has to be nearest to its own counterpart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.errors import UserError, WorkError

WARN, FAIL = 0.95, 0.9
FEWEST = 3


@dataclass(frozen=True)
class Parity:
    """How near the outputs of one name are, over N items.

    Attributes:
        cosine, least: the mean and the least of the items' cosines.
        centred: the mean cosine once the mean of the items is taken off; None where items hardly differ.
        own: the share of items that are nearest to their own counterpart.
        similarities: the correlation (Pearson) of the cosines between items in both models.
    """

    name: str
    items: int
    cosine: float
    least: float
    centred: float | None
    own: float
    similarities: float

    @property
    def lowest(self) -> float:
        """The number that decides."""
        return min(self.least, self.own, *([] if self.centred is None else [self.centred]))

    def judged(self, warn: float = WARN, fail: float = FAIL) -> str:
        """'' where it is near enough, 'warn' where it is not, 'fail' where it is another model."""
        return "fail" if self.lowest < fail else "warn" if self.lowest < warn else ""


def parities(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[Parity]:
    """The parity of each output that both models give, (N, …) each.

    Raises:
        UserError: there are too few items.
        WorkError: they give different outputs, or values that are not finite.
    """
    if set(first) != set(other):
        raise WorkError(f"one model gives {', '.join(first)} and the other {', '.join(other)}.")
    return [_parity(name, first[name], other[name]) for name in first]


def _parity(name: str, first: Tensor, other: Tensor) -> Parity:
    if first.shape != other.shape:
        raise WorkError(f"{name} has shape {tuple(first.shape)} in one model and {tuple(other.shape)} in the other.")
    one, two = (each.detach().cpu().double().flatten(1) for each in (first, other))
    if len(one) < FEWEST:
        raise UserError(f"parity needs {FEWEST} items or more, and there are {len(one)}.")
    if not (torch.isfinite(one).all() and torch.isfinite(two).all()):
        raise WorkError(f"{name} is not finite in one of the models.")
    cosines = F.cosine_similarity(one, two)
    across = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T
    own = (across.diagonal() >= across.amax(dim=1) - 1e-9).double().mean()
    first_apart, other_apart = one - one.mean(0), two - two.mean(0)
    differ = first_apart.norm(dim=1).mean() > 1e-6 * one.norm(dim=1).mean()
    centred = float(F.cosine_similarity(first_apart, other_apart).mean()) if differ else None
    pairs = torch.triu_indices(len(one), len(one), 1)
    within = [(F.normalize(each, dim=1) @ F.normalize(each, dim=1).T)[pairs[0], pairs[1]] for each in (one, two)]
    similarities = (
        float(torch.corrcoef(torch.stack(within))[0, 1]) if within[0].std() > 0 and within[1].std() > 0 else 1.0
    )
    return Parity(name, len(one), float(cosines.mean()), float(cosines.min()), centred, float(own), similarities)
