"""Find the points that no other beats, and the hypervolume that they cover."""

from __future__ import annotations

from collections.abc import Sequence

Pair = tuple[float, float]
"""(what is kept, bytes): the first is to be large, the second small."""


def on_front(points: Sequence[Pair]) -> list[bool]:
    """Whether each point is beaten by none: no other keeps as much in as few bytes, and is better in one."""
    order = sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0]))
    found, best, level = [False] * len(points), float("-inf"), None
    for index in order:
        kept, nbytes = points[index]
        if kept > best or (kept, nbytes) == level:
            found[index], best, level = True, kept, (kept, nbytes)
    return found


def hypervolume(points: Sequence[Pair], largest: float) -> float:
    """The share of the rectangle from nothing kept at `largest` bytes to all kept in none that the points cover.

    What is kept beyond the dense model counts as all of it. Between 0 and 1; with bytes as they are, not by their
    logarithm.
    """
    front = sorted(((nbytes, kept) for kept, nbytes in points if nbytes < largest and kept > 0), key=lambda each: each)
    area, level = 0.0, 0.0
    for nbytes, kept in front:
        kept = min(kept, 1.0)
        if kept > level:
            area += (kept - level) * (largest - nbytes)
            level = kept
    return area / largest if largest > 0 else 0.0
