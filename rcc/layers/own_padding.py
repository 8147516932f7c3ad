"""Recognise a convolution of a class of its own that pads by itself, by what it computes: conv(pad(x)), pad constant.

TensorFlow's 'same' padding has no name in torch where a stride is above one, so that networks bring subclasses that pad
in their forward. What such a class says of itself is not trusted: its forward is run on random inputs of several sizes,
with random weights, and compared with a padded convolution of torch's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.weight_layout import plain_class

Sides = tuple[int, ...]
"""Zeros before and after each dimension as `F.pad` takes them, the last dimension first."""
CONVOLVE = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
SIZES = (0, 1, 2, 5)
"""What inputs of a trial are longer by than the kernel: with strides up to 3, every remainder."""
RECIPE = (
    "it is no convolution behind a constant padding. Where only its padding follows the size of its input, put that in"
    " a layer before a plain one: nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), nn.Conv2d(...))"
)

_found: WeakKeyDictionary[nn.Module, Sides | None] = WeakKeyDictionary()


def pads_by_itself(module: Any) -> bool:
    """Whether `module` is a convolution, not transposed, with a forward that is not torch's."""
    kind = plain_class(module)
    base = next((base for base in CONVOLVE if issubclass(kind, base)), None)
    own = base is not None and (kind.forward, kind._conv_forward) != (base.forward, base._conv_forward)  # type: ignore[attr-defined]
    return own and getattr(module, "padding_mode", "zeros") == "zeros"


def own_padding(module: Any) -> Sides | None:
    """All that is padded before the convolution of a `module` that `pads_by_itself`, `padding` included; None where it
    is something else than conv(pad(x)), or none of its own."""
    if not pads_by_itself(module):
        return None
    if module not in _found:
        _found[module] = _recognised(module)
    return _found[module]


@torch.no_grad()
def _recognised(module: Any) -> Sides | None:
    kind = plain_class(module)
    convolve = next(call for base, call in CONVOLVE.items() if issubclass(kind, base))
    shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    draw = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(size, generator=draw, device="cpu") for size in (shape, shape[:1]))
    trial: Any = copy.copy(module)
    trial.__class__ = kind
    # The trial has tensors of its own; what else the module holds, its paddings among them, is the module's.
    trial.__dict__.update(_parameters={"weight": nn.Parameter(weight), "bias": nn.Parameter(bias)}, _buffers={})
    spans = [dilation * (size - 1) + 1 for dilation, size in zip(module.dilation, module.kernel_size, strict=True)]
    given = [
        torch.randn(1, module.in_channels, *(span + more for span in spans), generator=draw, device="cpu")
        for more in SIZES
    ]
    try:
        wanted = [kind.forward(trial, one) for one in given]
    except Exception:  # whatever a class of the user's raises of inputs like these, it is none that can be told
        return None

    def fits(sides: Sides) -> bool:
        for one, output in zip(given, wanted, strict=True):
            found = convolve(F.pad(one, sides), weight, bias, module.stride, 0, module.dilation, module.groups)
            if not isinstance(output, Tensor) or found.shape != output.shape:
                return False
            if not torch.allclose(found, output, rtol=1e-4, atol=1e-4):
                return False
        return True

    return next((sides for sides in _candidates(module, spans) if fits(sides)), None)


def _candidates(module: Any, spans: list[int]) -> Iterator[Sides]:
    """Its own `padding` with that of a padding layer inside it, and 'same' padding, the odd zero after or before."""
    plain: list[int] = []
    for place in reversed(range(len(spans))):
        if isinstance(module.padding, str):
            total = spans[place] - 1 if module.padding == "same" else 0
            plain += [total // 2, total - total // 2]
        else:
            plain += [module.padding[place]] * 2
    for child in module.children():
        sides = getattr(child, "padding", None)
        if isinstance(sides, tuple) and len(sides) == len(plain):
            yield tuple(one + other for one, other in zip(plain, sides, strict=True))
    yield tuple(plain)
    for least in (1, None):
        totals = [span - (stride if least is None else 1) for span, stride in zip(spans, module.stride, strict=True)]
        halves = [(max(0, total) // 2, max(0, total) - max(0, total) // 2) for total in reversed(totals)]
        yield tuple(side for pair in halves for side in pair)
        yield tuple(side for low, high in halves for side in (high, low))
