"""The kernel of each linear unit, chosen by timing all that apply on the unit's real input in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.modules import FormLinear
from rcc.layers.units import Unit
from rcc.runtime.agreement import layer_cosine
from rcc.runtime.kernels import ALLOWED, STORED, KernelLinear, build, kernels, sparsity
from rcc.runtime.records import Pick
from rcc.runtime.timing import interleaved

RANK_BUCKET, SPARSITY_BUCKET = 32, 0.05
YARDSTICK = "yardstick"  # the unit as it was stored, in the dtype it was stored in
Key = tuple[Any, ...]


@dataclass
class Chooser:
    """Chooses kernels for units that run in `dtype`.

    Units of one shape, one structure and as many rows share their timings, which are kept between passes.

    Args:
        forms: of each unit by name, in the dtype it was stored in.
        choice: one of `ALLOWED`.
    """

    forms: Mapping[str, Form]
    dtype: torch.dtype
    choice: str
    device: torch.device
    timings: dict[Key, dict[str, float]] = field(default_factory=dict)

    def choose(self, units: Sequence[Unit], run: Any, least_cosine: float) -> tuple[list[Pick], dict[str, nn.Module]]:
        """The pick of every unit that one call of `run` reaches, and the modules to put in place of units.

        The fastest kernel wins whose output on the unit's own input has a cosine of `least_cosine` or more to that of
        the form in float32; if none has, the one that is closest.
        """
        picks: dict[str, Pick] = {}
        modules: dict[str, nn.Module] = {}
        with _watched(units) as watch:

            def decide(unit: Unit, module: nn.Module, input: Tensor) -> None:
                if unit.name not in picks:
                    picks[unit.name], replacement = self._decide(unit, module, input, least_cosine)
                    if replacement is not None:
                        modules[unit.name] = replacement

            watch(decide)
            run()
        return list(picks.values()), modules

    def _decide(
        self, unit: Unit, module: nn.Module, input: Tensor, least_cosine: float
    ) -> tuple[Pick, nn.Module | None]:
        form = self.forms[unit.name]
        exact = _as_stored(form, input)
        options = {name: (start, kind) for name, start, kind in kernels(form, self.dtype, self.choice, self.device)}
        rows = input.numel() // input.shape[-1]
        key = (*unit.shape, _structure(form, RANK_BUCKET), form.bias is None, rows)
        if key not in self.timings:
            self.timings[key] = self._time(form, module, input, options)
        times = self.timings[key]
        allowed = [name for name in (STORED, *options) if name in times]
        if STORED not in ALLOWED[self.choice] and options:
            allowed.remove(STORED)
        best: tuple[float, str, KernelLinear | None] | None = None
        for name in sorted(allowed, key=times.__getitem__):
            kernel = None if name == STORED else build(*options[name], self.dtype)
            cosine = layer_cosine(module.forward(input) if kernel is None else kernel(input), exact)
            if best is None or cosine > best[0]:
                best = cosine, name, kernel
            if cosine >= least_cosine:
                best = cosine, name, kernel
                break
        assert best is not None
        cosine, name, kernel = best
        structure = _structure(form, 1)
        return Pick(unit.name, unit.shape, structure, rows, name, times[YARDSTICK], times[name], cosine), kernel

    def _time(
        self, form: Form, module: nn.Module, input: Tensor, options: Mapping[str, tuple[Form, str]]
    ) -> dict[str, float]:
        built = {name: build(start, kind, self.dtype) for name, (start, kind) in options.items()}
        before = input.to(next(form.matrices())[1].dtype)
        ways: dict[str, Callable[[], Tensor]] = {name: partial(kernel, input) for name, kernel in built.items()}
        ways[STORED] = partial(module.forward, input)
        ways[YARDSTICK] = partial(_as_stored, form, before)
        taken = interleaved(ways, self.device, least=5, most=100, seconds=0.2)
        return {name: min(times) for name, times in taken.items()}

    def stored_seconds(self, pick: Pick) -> float:
        """Of one call of the unit's own module in the dtype the model runs in."""
        form = self.forms[pick.unit]
        key = (*pick.shape, _structure(form, RANK_BUCKET), form.bias is None, pick.rows)
        return self.timings[key][STORED]


def _structure(form: Form, rank_bucket: int) -> str:
    """What a unit computes: 'S', 'S 95%' with its share of zeros, 'UV r=153', 'S 90% + UV r=64'."""
    parts = []
    if form.sparse is not None:
        parts.append("S" + _zeros(form.sparse))
    if form.left is not None and form.right is not None:
        rank = -(-form.left.shape[1] // rank_bucket) * rank_bucket
        zeros = _zeros(form.left), _zeros(form.right)
        parts.append((f"U{zeros[0]} V{zeros[1]}" if any(zeros) else "UV") + f" r={rank}")
    return " + ".join(parts)


def _zeros(matrix: Tensor) -> str:
    share = round(sparsity(matrix) / SPARSITY_BUCKET) * SPARSITY_BUCKET
    return f" {share:.0%}" if share > 0 else ""


def _as_stored(form: Form, input: Tensor) -> Tensor:
    """What the unit computes as it was stored, in the dtype it was stored in."""
    input = input.to(next(form.matrices())[1].dtype)
    if form.sparse is not None and form.left is None and form.scale is None:
        return F.linear(input, form.sparse, form.bias)
    output: Tensor = FormLinear(form)(input)
    return output


@contextmanager
def _watched(units: Sequence[Unit]) -> Iterator[Any]:
    """Calls the function given to what this yields with each unit, its module and the module's input, as they run."""
    handles = []

    def watch(tell: Any) -> None:
        for unit in units:

            def hook(module: nn.Module, inputs: Any, named: Any, _: Any, unit: Unit = unit) -> None:
                tell(unit, module, inputs[0] if inputs else named["input"])

            handles.append(unit.module.register_forward_hook(hook, with_kwargs=True))

    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()
