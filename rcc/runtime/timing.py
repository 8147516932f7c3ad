"""Time several implementations in turns, so that other load on the machine falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

HOPELESS = 20.0  # times the fastest first call, from which a way is not called again


def interleaved(
    ways: Mapping[str, Callable[[], object]],
    device: torch.device,
    before: Mapping[str, Callable[[], object]] | None = None,
    least: int = 5,
    most: int = 50,
    seconds: float = 1.0,
) -> dict[str, list[float]]:
    """Seconds of each call of each way, after two calls of each that are not counted.

    Args:
        device: whose queue a call must have left before its clock stops.
        before: what must be done before a way is called, off the clock.
        least, most: rounds over all the ways; between the two, rounds go on until `seconds` have passed.

    Returns:
        As many times for each way, in order. A way that was hopelessly slow twice has that one time alone.
    """
    before = before or {}

    def once(name: str) -> float:
        before.get(name, _nothing)()
        return _timed(ways[name], device)

    first = {name: once(name) for name in ways}
    fastest = min(first.values())
    slow = {}
    for name in [name for name in first if first[name] > HOPELESS * fastest]:
        again = once(name)  # what a first call sets up is not held against it
        if again > HOPELESS * fastest:
            slow[name] = again
    taken: dict[str, list[float]] = {name: [slow[name]] if name in slow else [] for name in ways}
    running = [name for name in ways if name not in slow]
    for name in running:
        once(name)
    end = time.perf_counter() + seconds
    for done in range(most):
        if done >= least and time.perf_counter() > end:
            break
        for name in running:
            taken[name].append(once(name))
    return taken


def quantile(times: list[float], share: float) -> float:
    """The `share` quantile of the times, linear between neighbours; 0.5 is the median."""
    return float(torch.tensor(times, dtype=torch.float64).quantile(share))


def _nothing() -> None: ...


def _timed(way: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - started
