"""Measure what a model costs: bytes, parameters, operations, time and memory, alone or beside another model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch

from rcc.artifact.size import model_size, storage_dtype
from rcc.data.loading import batch_of
from rcc.data.splits import Split, Splits
from rcc.errors import Problems
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.modes import evaluating
from rcc.measurement import Measurement, Metric
from rcc.measurement.paired import APART
from rcc.measurement.shares import quantile_interval
from rcc.memory import peak_bytes
from rcc.models.adapter import Adapter
from rcc.runtime.flops import executed_flops, theoretical_flops
from rcc.runtime.timing import interleaved, quantile

MOST_PASSES = 200
OWN, BESIDE = "own", "beside"
SHARES = {"p50": 0.5, "p95": 0.95}


class EfficiencyEvaluator:
    """Costs of one pass over prepared inputs: the first items of the split, at batch 1 and n.

    Reading and preparing inputs is not part of a pass. Bytes and counts are exact and have no interval; those of
    quantiles of time are distribution-free, from order statistics, and take the passes as independent.

    Args:
        batch_size: n, the items of the larger batch; a smaller split gives its own length.
        seconds: of timing at each batch size; at least 5 passes of each model and at most 200.
        dtype: 'float32', 'float16' or 'bfloat16', of the values when the bytes of the stored weights are counted.
    """

    at_the_end: ClassVar[bool] = True

    def __init__(self, batch_size: int = 32, seconds: float = 1.0, dtype: str = "float16") -> None:
        problems = Problems("eval 'efficiency'")
        problems.whole("batch_size", batch_size, 1)
        problems.at_least("seconds", seconds, 0)
        problems.choice("dtype", dtype, STORED_DTYPES)
        problems.done()
        self.batch_size, self.seconds, self.dtype = batch_size, seconds, dtype
        self._stored: WeakKeyDictionary[Adapter, list[Metric]] = WeakKeyDictionary()

    def measure_before_optimising(self, adapter: Adapter, split: Split) -> None:
        """Count what shows only in a model as it is stored, before kernels take the place of its modules; for the next
        `evaluate` of it."""
        self._stored[adapter] = self._count_stored(adapter, split)

    @torch.no_grad()
    def evaluate(self, adapter: Adapter, split: Split, splits: Splits, beside: Adapter | None = None) -> Measurement:
        """The costs of `adapter`; with `beside`, both are timed in turns, and how many times faster `adapter` is than
        `beside` is measured as well.

        `details` holds the seconds of every pass and a note of what they were taken on.
        """
        models = {OWN: adapter} if beside is None else {OWN: adapter, BESIDE: beside}
        with ExitStack() as evaluation:
            for model in models.values():
                evaluation.enter_context(evaluating(model.module))
            return self._measure(models, split)

    def _measure(self, models: Mapping[str, Adapter], split: Split) -> Measurement:
        adapter = models[OWN]
        sizes = sorted({1, min(self.batch_size, len(split))})
        passes = {name: {size: _pass(model, split, size) for size in sizes} for name, model in models.items()}
        largest = passes[OWN][sizes[-1]]
        stored = self._stored.pop(adapter, None) or self._count_stored(adapter, split)
        metrics = [*stored, Metric("executed_flops", executed_flops(largest) / sizes[-1], "FLOPs", False)]
        times: dict[int, Mapping[str, list[float]]] = {}
        for size in sizes:
            ways = {name: each[size] for name, each in passes.items()}
            times[size] = interleaved(ways, adapter.device, most=MOST_PASSES, seconds=self.seconds)
            metrics += _of_times(size, times[size])
        metrics.append(Metric("peak_memory", peak_bytes(largest, adapter.module), "bytes", False))
        details = {
            "note": _note(adapter, sizes),
            "seconds": {str(size): taken for size, taken in times.items()},
            APART: [metric.name for size in sizes for metric in _of_times(size, times[size])],
        }
        main = f"latency_p50_batch_{sizes[-1]}"
        return Measurement(tuple(metrics), main, split.name, sizes[-1], details)

    def _count_stored(self, adapter: Adapter, split: Split) -> list[Metric]:
        """Bytes of the weights as an artifact would store them, values held and not zero, operations in theory."""
        size = model_size(adapter, storage_dtype(self.dtype))
        items = min(self.batch_size, len(split))
        with evaluating(adapter.module):
            flops = theoretical_flops(_pass(adapter, split, items), adapter.units()) / items
        parameters = sum(parameter.numel() for parameter in adapter.module.parameters())
        return [
            Metric("stored_bytes", size.nbytes, "bytes", False),
            Metric("parameters", parameters, "parameters", False),
            Metric("nonzeros", size.nonzeros, "parameters", False),
            Metric("theoretical_flops", flops, "FLOPs", False),
        ]


def _pass(adapter: Adapter, split: Split, size: int) -> Callable[[], object]:
    """One pass over the first `size` items, prepared beforehand."""
    return partial(adapter.outputs, batch_of(adapter, split, stop=size))


def _of_times(size: int, taken: Mapping[str, list[float]]) -> list[Metric]:
    """Latency, throughput, and the speed-up over the model beside, as the median of the ratios round by round."""
    own = taken[OWN]
    found = [_quantile(f"latency_{name}_batch_{size}", own, share, "s", False) for name, share in SHARES.items()]
    median, interval = found[0].value, found[0].interval
    rate = None if interval is None else interval.mapped(lambda seconds: size / seconds)
    error = None if rate is None else rate.standard_error
    found.append(Metric(f"throughput_batch_{size}", size / median, "items/s", True, error, rate))
    if BESIDE in taken:
        ratios = [other / one for one, other in zip(own, taken[BESIDE], strict=False)]
        found.append(_quantile(f"speedup_batch_{size}", ratios, 0.5, "×", True))
    return found


def _quantile(name: str, values: list[float], share: float, unit: str, higher_is_better: bool) -> Metric:
    interval = quantile_interval(values, share)
    error = None if interval is None else interval.standard_error
    return Metric(name, quantile(values, share), unit, higher_is_better, error, interval)


def _note(adapter: Adapter, sizes: list[int]) -> str:
    threads = torch.get_num_threads()
    dtype = next(parameter.dtype for parameter in adapter.module.parameters() if parameter.is_floating_point())
    where = f"{threads} thread{'s' if threads > 1 else ''}" if adapter.device.type == "cpu" else str(adapter.device)
    held = str(dtype).removeprefix("torch.")
    return (
        f"Costs on {where}, parameters held in {held}: one pass over prepared inputs, after two that do not count, the "
        f"device waited for; FLOPs of one item, in a batch of {sizes[-1]}. Models that are compared take turns."
    )
