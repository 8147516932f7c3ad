"""Choose the kernel of each unit by timing all that apply on the unit's real input, in one pass."""

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
from rcc.layers.modules import FormConv, FormLinear
from rcc.layers.units import Unit
from rcc.layers.weight_layout import is_conv1d
from rcc.runtime.agreement import layer_cosine
from rcc.runtime.kernels import ALLOWED, STORED, Kernel, kernels, sparsity
from rcc.runtime.patches import Convolution, PatchKernel
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
        yardstick = _as_stored(form, module)
        before = input.to(next(form.matrices())[1].dtype)
        patches = unit.kind == "conv"
        options = {each.name: each for each in kernels(form, self.dtype, self.choice, self.device, patches)}
        exact = yardstick(before)
        rows = exact.numel() // unit.shape[0]
        key = _key(form, rows)
        if key not in self.timings:
            built = {name: self._build(kernel, form, module) for name, kernel in options.items()}
            ways: dict[str, Callable[[], Tensor]] = {name: partial(each, input) for name, each in built.items()}
            ways[STORED] = partial(module.forward, input)
            ways[YARDSTICK] = partial(yardstick, before)
            taken = interleaved(ways, self.device, seconds=0.2)
            least = {name: min(times) for name, times in taken.items()}
            if self.dtype is before.dtype:  # then these two are one
                least[STORED] = least[YARDSTICK] = min(least[STORED], least[YARDSTICK])
            self.timings[key] = least
        times = self.timings[key]
        allowed = [name for name in (STORED, *options) if name in times]
        if STORED not in ALLOWED[self.choice] and options:
            allowed.remove(STORED)
        best: tuple[float, str, nn.Module | None] | None = None
        for name in sorted(allowed, key=times.__getitem__):
            replacement = None if name == STORED else self._build(options[name], form, module)
            output = module.forward(input) if replacement is None else replacement(input)
            channel = -len(module.kernel_size) - 1 if isinstance(module, Convolution) else -1
            cosine = layer_cosine(output.movedim(channel, -1), exact.movedim(channel, -1))
            if best is None or cosine > best[0] or cosine >= least_cosine:
                best = cosine, name, replacement
            if cosine >= least_cosine:
                break
        assert best is not None
        cosine, name, replacement = best
        zeros = 1 - form.nonzeros / form.stored
        seconds = times[YARDSTICK], times[name]
        return Pick(unit.name, unit.shape, _parts(form), form.rank, zeros, rows, name, *seconds, cosine), replacement

    def _build(self, kernel: Kernel, form: Form, module: nn.Module) -> nn.Module:
        built = kernel.build(form, self.dtype)
        shape: tuple[int, ...] = form.shape[::-1] if is_conv1d(module) else form.shape
        if isinstance(module, Convolution):
            built, shape = PatchKernel(built, module.kernel_size), (shape[0], module.in_channels, *module.kernel_size)
        # Models ask a layer's weight for its dtype, device and shape. One that computes with it must not go unnoticed.
        weight = torch.full((), torch.nan, dtype=self.dtype, device=self.device).expand(shape)
        built.register_buffer("weight", weight, persistent=False)
        return built

    def stored_seconds(self, pick: Pick) -> float:
        """Of one call of the unit's own module in the dtype the model runs in."""
        return self.timings[_key(self.forms[pick.unit], pick.rows)][STORED]


def _key(form: Form, rows: int) -> Key:
    """What units must share to be timed once: shape and matrices, rank and zeros roughly, and the rows of a call."""
    rank = -(-(form.rank or 0) // RANK_BUCKET)
    zeros = tuple(round(sparsity(matrix) / SPARSITY_BUCKET) for _, matrix in form.matrices())
    return form.shape, _parts(form), rank, zeros, form.scale is None, form.bias is None, rows


def _parts(form: Form) -> str:
    return " + ".join(name for name, part in (("S", form.sparse), ("UV", form.left)) if part is not None)


def _as_stored(form: Form, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What the unit computes as it was stored, in the dtype it was stored in."""
    if isinstance(module, Convolution):
        return FormConv(form, module)
    if form.sparse is not None and form.left is None and form.scale is None:
        return partial(F.linear, weight=form.sparse, bias=form.bias)
    return FormLinear(form)


@contextmanager
def _watched(units: Sequence[Unit]) -> Iterator[Any]:
    """Calls the function given to what this yields with each unit, its module and the module's input, as they run."""
    handles = []

    def watch(tell: Any) -> None:
        for unit in units:

            def hook(module: nn.Module, inputs: Any, named: Any, _: Any, unit: Unit = unit) -> None:
                tell(unit, module, inputs[0] if inputs else next(iter(named.values())))

            handles.append(unit.module.register_forward_hook(hook, with_kwargs=True))

    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()
