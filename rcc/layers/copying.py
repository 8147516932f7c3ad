"""Copy a module, also one on which hooks keep tensors that they computed."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def deep_copy(module: Module, memo: dict[int, Any] | None = None) -> Module:
    """`copy.deepcopy(module, memo)`, where a computed tensor is copied by its values.

    The hooks of torch.nn.utils.weight_norm and of its pruning keep the weight they computed as a plain attribute. It
    has a gradient's history, which deepcopy refuses to copy; the next forward computes it anew anyway.
    """
    memo = {} if memo is None else memo
    for each in module.modules():
        for value in vars(each).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)
