"""Evaluate progress curves: the share of a target that is due after each of N steps, exactly 1 after the last."""

from __future__ import annotations

import math
from collections.abc import Callable

STEEPNESS = 5.0
"""Rate of the exponential curve; without its normalisation it would end at 1 − e^−5 ≈ 0.993."""

CURVES: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "exponential": lambda t: math.expm1(-STEEPNESS * t) / math.expm1(-STEEPNESS),
    "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
    "polynomial": lambda t: 1 - (1 - t) ** 3,
    "cubic_late": lambda t: t**3,
}
"""Curve name -> share at time t in [0, 1]. All rise from 0 to 1; 'polynomial' is the cubic of Zhu & Gupta
(2017), which asks for most of the target early, while there is much to choose from."""


def share(curve: str, index: int, total: int) -> float:
    """The share of the target due once step `index` (from 0) of `total` is done: at t = (index + 1)/total.

    Raises:
        ValueError: an unknown curve, or a step outside 0 to total − 1.
    """
    if curve not in CURVES:
        raise ValueError(f"unknown curve '{curve}'; available: {', '.join(CURVES)}")
    if not 0 <= index < total:
        raise ValueError(f"step {index} is not one of the {total} steps 0 to {total - 1}")
    return 1.0 if index + 1 == total else CURVES[curve]((index + 1) / total)
