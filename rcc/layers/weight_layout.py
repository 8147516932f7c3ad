"""Convert the weight of a module to the (out, in) matrix of its form, and back.

A linear layer's weight and an embedding's are that matrix. A convolution's (out, in / groups, kernel…) is flattened.
transformers' `Conv1D`, the linear layer of GPT-2, keeps (in, out). A transposed convolution keeps
(in, out / groups, kernel…): its matrix has a row for each output channel too, because each output is a sum over
the inputs that its kernel reaches, so that all that is known of convolutions holds for it.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from torch import Tensor, nn


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class of `module`, or the one it had before it was given a form."""
    found: type[nn.Module] = getattr(module, "plain_class", type(module))
    return found


def is_conv1d(module: nn.Module) -> bool:
    """Whether `module` is transformers' `Conv1D`, or was one."""
    # Who has such a layer has imported its class: this room does without transformers.
    known = sys.modules.get("transformers.pytorch_utils")
    return known is not None and issubclass(plain_class(module), known.Conv1D)


def matrix_shape_of(module: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """(out, in) of the matrix of a weight of this `shape`."""
    if is_conv1d(module):
        return shape[1], shape[0]
    if getattr(module, "transposed", False):
        return shape[1] * module.groups, shape[0] // module.groups * math.prod(shape[2:])
    return shape[0], math.prod(shape[1:])


def matrix_of(module: Any, weight: Tensor) -> Tensor:
    """The contiguous (out, in) matrix of a tensor that has the layout of the module's weight.

    It shares the memory of `weight` where the layout is that of the matrix.
    """
    if is_conv1d(module):
        return weight.T.contiguous()
    if getattr(module, "transposed", False):
        by_group = weight.unflatten(0, (module.groups, -1))
        return by_group.transpose(1, 2).flatten(0, 1).flatten(1).contiguous()
    return weight.flatten(1)


def weight_of(module: Any, matrix: Tensor) -> Tensor:
    """The inverse of `matrix_of`: `matrix` (out, in) as the module's own weight would be."""
    if is_conv1d(module):
        return matrix.T.contiguous()
    kernel = getattr(module, "kernel_size", None)
    if kernel is None:
        return matrix
    weight = matrix.view(matrix.shape[0], -1, *kernel)
    if getattr(module, "transposed", False):
        return weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1).contiguous()
    return weight
