"""Cut what a layer is given into the rows that its weight is multiplied with.

A transposed convolution is the convolution, of stride 1 and with the kernel turned round, of its input with
stride − 1 zeros put between the pixels: its rows are cut from that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from rcc.layers.own_padding import own_padding
from rcc.layers.padding import without_padding

CHUNK = 1 << 22
"""Values of rows made at a time: unfolding repeats each pixel once for every place of the kernel."""


def input_rows(
    module: Any, inputs: Tensor, mask: Tensor | None = None, size: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """Rows (groups, n, in) in chunks, such that the module's output is rows @ Wᵀ, group by group, plus a bias.

    Args:
        module: a linear layer or a convolution, plain or a form. All but grouped convolutions have one group.
        inputs: (…, in) for a linear layer, ([batch,] channels, …) for a convolution, of which every place of
            the kernel is one row of in · kernel values, in the order of the flattened kernel.
        mask: of the batch, see `without_padding`; it leaves out rows of a linear layer.
        size: of the output of a transposed convolution, whose stride leaves it open and whose caller may decide it
            (`output_size`); by default that of the module's own `output_padding`.
    """
    kernel = getattr(module, "kernel_size", None)
    if kernel is None:
        flat = without_padding(inputs, mask).reshape(-1, inputs.shape[-1])
        for part in flat.split(max(1, CHUNK // flat.shape[1])):
            yield part[None]
        return
    if inputs.dim() == len(kernel) + 1:
        inputs = inputs[None]
    places = 1
    for length, stride in zip(inputs.shape[2:], module.stride, strict=True):
        places *= length * stride if _is_transposed(module) else -(-length // stride)
    repeated = inputs.shape[1] * places * math.prod(kernel)
    for part in inputs.split(max(1, CHUNK // max(1, repeated))):
        yield _transposed_patches(module, part, size) if _is_transposed(module) else _patches(module, part)


def geometry(module: Any) -> tuple[Any, ...]:
    """The module's properties that decide which rows `input_rows` makes of its inputs."""
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "transposed", "output_padding")
    found = (getattr(module, name, None) for name in names)
    # A stride may be given as a list, which no key could hold.
    return (*(tuple(each) if isinstance(each, list) else each for each in found), own_padding(module))


def _is_transposed(module: Any) -> bool:
    return bool(getattr(module, "transposed", False))


def _padding(module: Any) -> list[int]:
    """Zeros before and after each dimension as `F.pad` takes them, the last dimension first."""
    if (own := own_padding(module)) is not None:
        return list(own)
    sides: list[int] = []
    for place in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[place] * (module.kernel_size[place] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [0, 0] if module.padding == "valid" else [module.padding[place]] * 2
    return sides


def _patches(module: Any, images: Tensor) -> Tensor:
    windows = _windows(F.pad(images, _padding(module)), module.kernel_size, module.stride, module.dilation)
    return _rows(windows, module.groups)


def _transposed_patches(module: Any, images: Tensor, size: Sequence[int] | None) -> Tensor:
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    spread = images.new_zeros(
        *images.shape[:2], *((size - 1) * step + 1 for size, step in zip(images.shape[2:], stride, strict=True))
    )
    strided: tuple[Any, ...] = (..., *(slice(None, None, step) for step in stride))
    spread[strided] = images
    sides: list[int] = []
    for place in reversed(range(len(kernel))):
        span = dilation[place] * (kernel[place] - 1)
        reach = span - module.padding[place]  # below zero where padding crops more
        least = spread.shape[place + 2] + 2 * reach - span
        sides += [reach, reach + (module.output_padding[place] if size is None else size[place] - least)]
    windows = _windows(F.pad(spread, sides), kernel, (1,) * len(kernel), dilation)
    return _rows(windows.flip(tuple(range(-len(kernel), 0))), module.groups)


def _windows(images: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """The window under a kernel at each of its places, (B, C, places…, kernel…), a view of `images` (B, C, …)."""
    for place, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), 2):
        images = images.unfold(place, gap * (size - 1) + 1, step)[..., ::gap]
    return images


def _rows(windows: Tensor, groups: int) -> Tensor:
    """Rows (groups, n, in): images and places one after the other, channels before the places of the kernel."""
    places = (windows.dim() - 2) // 2
    by_group = windows.unflatten(1, (groups, -1)).movedim(1, 0)  # (G, B, C / G, places…, kernel…)
    if groups > 1:
        # Inputs are few here: laid out one after the other, whole lines of an image are copied and summed at a time.
        kernel = range(3 + places, 3 + 2 * places)
        return by_group.permute(0, 2, *kernel, 1, *range(3, 3 + places)).flatten(2 + places).flatten(1, -2).mT
    return by_group.movedim(2, -places - 1).flatten(-places - 1).flatten(1, -2)
