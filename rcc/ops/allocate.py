"""Allocate the values to remove among pools, by the output error that each byte would cost.

With inputs of unit second moment the relative squared output error of a layer from which values are removed
is the share of its Σ w² that they hold. Every value takes the same bytes, so the sum of these errors is least
when the values with the smallest |w| / ‖W‖ go, whatever pool they are in: at the margin every pool then
loses the same error a byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rcc.ops.nonzeros import count_nonzeros
from rcc.ops.prune import squared_norm
from rcc.ops.select import Scores, count_selected, select_smallest

OWL_MULTIPLE, OWL_SPREAD = 5.0, 0.08
"""The best of 3 to 10 and of 0.02 to 0.2 in the paper."""


def energy_lost(tensors: Sequence[Tensor], count: int) -> float:
    """The share of Σ w² that the `count` smallest magnitudes of all `tensors` hold, 0 where all is zero."""
    total = sum(squared_norm(tensor) for tensor in tensors)
    if total == 0:
        return 0.0
    masks = select_smallest(tensors, count)
    return sum(squared_norm(tensor, mask) for tensor, mask in zip(tensors, masks, strict=True)) / total


def allocate(pools: Sequence[Scores], norms: Sequence[float], total: int, most: float) -> list[int]:
    """The number of values that each pool gives up: `total` in all, exactly.

    Args:
        pools: the weights of each pool.
        norms: ‖W‖ of each pool; a pool of norm 0 holds only zeros, which cost nothing.
        total: the values to remove, zeros that are there already included (they always go first).
        most: the largest share of a pool that may be zero, unless it is so already, to within one value; below 1 a
            pool keeps one at least. What a pool would lose beyond falls to the others.

    Cost: a selection over all values, and another each time that pools meet their limit.

    Raises:
        ValueError: `total` is more than the pools can give.
    """
    counts: dict[int, int] = {}
    left = total
    while True:
        free = [place for place in range(len(pools)) if place not in counts]
        if not 0 <= left <= sum(pools[place].numel for place in free):
            given = sum(counts.values()) + sum(_limit(pools[place], most) for place in free)
            raise ValueError(f"cannot remove {total} values from pools that can give {given}")
        found = _at_the_margin([pools[place] for place in free], [norms[place] for place in free], left)
        over: dict[int, int] = {}
        for place, count in zip(free, found, strict=True):
            # Most pools are far from their limit: those alone that are not are read for the zeros that they have.
            if count > least_limit(pools[place].numel, most):
                limit = _limit(pools[place], most)
                over |= {place: limit} if count > limit else {}
        if not over:
            return [counts[place] if place in counts else found[free.index(place)] for place in range(len(pools))]
        counts.update(over)
        left -= sum(over.values())


def least_limit(values: int, most: float) -> int:
    """The number of `values` that may be zero at a share of `most`, to within one; below 1 never all of them."""
    return min(math.ceil(most * values), values - 1 if most < 1 else values)


def _limit(pool: Scores, most: float) -> int:
    zeros = pool.numel - sum(count_nonzeros(pool[index]) for index in range(len(pool)))
    return max(least_limit(pool.numel, most), zeros)


def _at_the_margin(pools: Sequence[Scores], norms: Sequence[float], total: int) -> list[int]:
    """Counts of the values among the `total` smallest |w| / ‖W‖ of all pools.

    The quotients are float64, so that distinct magnitudes stay distinct and none underflows to zero. Pools of one
    norm are compared as they are.
    """
    places = [(place, index) for place, pool in enumerate(pools) for index in range(len(pool))]
    alike = len(set(norms)) == 1
    wide = not alike or any(pool.dtype == torch.float64 for pool in pools)
    relative = Scores(
        [pools[place].sizes[index] for place, index in places],
        lambda at: pools[places[at][0]][places[at][1]],
        torch.float64 if wide else torch.float32,
        None if alike else [norms[place] or 1.0 for place, _ in places],
    )
    counts = [0] * len(pools)
    for (place, _), count in zip(places, count_selected(relative, total), strict=True):
        counts[place] += count
    return counts


def outlier_shares(
    pools: Sequence[Scores],
    sizes: Sequence[int],
    target: float,
    most: float,
    spread: float = OWL_SPREAD,
    multiple: float = OWL_MULTIPLE,
) -> list[float]:
    """OWL's share of zeros for each pool: `target` on average over the values, less where outliers are more.

    Yin et al. 2023, "Outlier Weighed Layerwise Sparsity" (OWL): the outliers of a layer are its
    scores above `multiple` times their mean; the layers' shares of outliers are mapped linearly onto an interval of
    width 2 · `spread`, which is shifted so that the mean over all values is `target`.

    Args:
        pools: scores |w| · ‖x‖ of each layer.
        sizes: values of each.
        most: the largest share of zeros of a layer; what a layer would lose beyond falls to the others.
    """
    ratios = torch.tensor([_outliers(pool, multiple) for pool in pools], dtype=torch.float64)
    weights = torch.tensor(sizes, dtype=torch.float64)
    width = float(ratios.max() - ratios.min())
    scaled = (ratios - ratios.min()) / width * 2 * spread if width else torch.zeros_like(ratios)
    shares = -scaled
    low, high = target - 1.0, target + 1.0 + 2 * spread
    for _ in range(100):  # the mean rises with the shift, clipping and all
        shift = (low + high) / 2
        mean = float(((shares + shift).clamp(0, most) * weights).sum() / weights.sum())
        low, high = (shift, high) if mean < target else (low, shift)
    return [float(share) for share in (shares + high).clamp(0, most)]


def _outliers(pool: Scores, multiple: float) -> float:
    """The share of a pool's scores above `multiple` times their mean."""
    count = sum(pool.sizes)
    mean = sum(float(pool[index].abs().sum(dtype=torch.float64)) for index in range(len(pool))) / count
    return sum(int((pool[index].abs() > multiple * mean).sum()) for index in range(len(pool))) / count
