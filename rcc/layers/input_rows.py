"""The vectors that a unit's weight is multiplied with, as rows, from what its module was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 22
"""Values of rows made at a time: unfolding repeats each pixel once for every place of the kernel."""


def input_rows(module: Any, inputs: Tensor, mask: Tensor | None = None) -> Iterator[Tensor]:
    """Rows (groups, n, in) in chunks, such that the module's output is rows @ Wᵀ, group by group, plus a bias.

    Args:
        module: a linear layer or a convolution, plain or a form. All but grouped convolutions have one group.
        inputs: (…, in) for a linear layer, ([batch,] channels, …) for a convolution, of which every place of
            the kernel is one row of in · kernel values, in the order of the flattened kernel.
        mask: (batch, length), not zero where a token counts. It leaves out rows of a linear layer whose inputs
            are (batch, length, …); any other shape is not of these tokens.
    """
    kernel = getattr(module, "kernel_size", None)
    if kernel is None:
        if mask is not None and inputs.dim() > 2 and inputs.shape[:2] == mask.shape:
            inputs = inputs[mask.to(inputs.device) != 0]
        flat = inputs.reshape(-1, inputs.shape[-1])
        for part in flat.split(max(1, CHUNK // flat.shape[1])):
            yield part[None]
        return
    if inputs.dim() == len(kernel) + 1:
        inputs = inputs[None]
    padded = F.pad(inputs, _padding(module))
    repeated = padded[0].numel()
    for size, stride in zip(kernel, module.stride, strict=True):
        repeated *= -(-size // stride)
    for part in padded.split(max(1, CHUNK // max(1, repeated))):
        yield _patches(module, part)


def geometry(module: Any) -> tuple[Any, ...]:
    """What decides, beside the inputs, which rows `input_rows` makes of them."""
    names = ("kernel_size", "stride", "padding", "dilation", "groups")
    return tuple(getattr(module, name, None) for name in names)


def _padding(module: Any) -> list[int]:
    """Zeros before and after each dimension as `F.pad` takes them, the last dimension first."""
    sides: list[int] = []
    for place in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[place] * (module.kernel_size[place] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [0, 0] if module.padding == "valid" else [module.padding[place]] * 2
    return sides


def _patches(module: Any, images: Tensor) -> Tensor:
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if len(kernel) == 1:
        images = images[:, :, None]
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    columns = F.unfold(images, kernel, dilation=dilation, stride=stride)
    return columns.unflatten(1, (module.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
