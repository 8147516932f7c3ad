"""What models cost to run, side by side in one process: operations, latency and throughput."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from rcc.runtime.flops import executed_flops
from rcc.runtime.records import Efficiency, Latency
from rcc.runtime.timing import interleaved, quantile


@torch.no_grad()
def efficiency(
    models: Mapping[str, Mapping[int, Callable[[], object]]],
    theoretical: Mapping[str, int],
    device: torch.device,
    seconds: float = 1.0,
) -> list[Efficiency]:
    """Measure each model, all in turns at each batch size, so that the ratios hold even on a busy machine.

    Args:
        models: by name, a pass over a batch of so many items, by that number; the same numbers for all.
        theoretical: `theoretical_flops` of one pass at the largest batch, by model, taken before kernels were put
            in place.
        seconds: for each batch size; at least 5 passes of each model, at most 200.
    """
    sizes = sorted(next(iter(models.values())))
    latencies: dict[str, list[Latency]] = {name: [] for name in models}
    for size in sizes:
        ways = {name: passes[size] for name, passes in models.items()}
        for name, times in interleaved(ways, device, most=200, seconds=seconds).items():
            latencies[name].append(Latency(size, quantile(times, 0.5), quantile(times, 0.95), len(times)))
    largest = sizes[-1]
    return [
        Efficiency(
            name,
            executed_flops(passes[largest]) // largest,
            theoretical[name] // largest,
            tuple(latencies[name]),
        )
        for name, passes in models.items()
    ]
