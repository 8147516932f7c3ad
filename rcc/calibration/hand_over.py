"""Find which layer hands its output to a batch norm and to nothing else, by looking at one forward of the model.

Names say nothing of it. What is looked at is the tensors themselves: the object that a layer puts out is the one that
the norm is given, and no other operation of the forward reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating


class _Readers(TorchDispatchMode):
    """Counts the operations that are given each of the tensors watched, by its `id`; these must be kept alive."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.watched: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor) and id(leaf) in self.watched:
                self.reads[id(leaf)] += 1
        return func(*args, **(kwargs or {}))


@dataclass
class HandOver:
    """What one forward showed: `layer_of` gives, for a norm, the layer whose output it alone reads, and `reason` says
    of any other norm why there is none."""

    layer_of: dict[str, str] = field(default_factory=dict)
    reason: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def hand_overs(model: Model, layers: Mapping[str, nn.Module], norms: Mapping[str, nn.Module], batch: Batch) -> HandOver:
    """Look at one forward of `batch` in evaluation mode.

    Args:
        layers, norms: modules by name. A layer counts that is called once, a norm that is called once.

    Costs one forward, with the outputs of all `layers` in memory.
    """
    readers = _Readers()
    made_by: dict[int, str] = {}
    given: dict[str, list[int]] = {name: [] for name in norms}
    layer_before: dict[str, str | None] = {}
    calls: Counter[str] = Counter()

    def after_layer(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls[name] += 1
        if isinstance(output, Tensor):
            made_by[id(output)] = name
            readers.watched[id(output)] = output

    def before_norm(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        given[name].append(id(args[0]) if args else 0)
        # Asked for here: once the tensor is gone, another may be given its `id`.
        layer_before[name] = made_by.get(given[name][-1])

    with evaluating(model.module), ExitStack() as stack:
        for name, module in layers.items():
            stack.callback(module.register_forward_hook(partial(after_layer, name)).remove)
        for name, module in norms.items():
            stack.callback(module.register_forward_pre_hook(partial(before_norm, name)).remove)
        with readers:
            model.outputs(batch)
    found = HandOver()
    for norm, tensors in given.items():
        layer = layer_before.get(norm)
        if not tensors:
            found.reason[norm] = "the calibration batch did not reach it"
        elif len(tensors) > 1:
            found.reason[norm] = f"it is called {len(tensors)} times"
        elif layer is None:
            found.reason[norm] = "what it is given is no layer's output"
        elif calls[layer] > 1:
            found.reason[norm] = f"{layer}, before it, is called {calls[layer]} times"
        elif readers.reads[tensors[0]] > 1:
            found.reason[norm] = f"the output of {layer} is read by others too"
        else:
            found.layer_of[norm] = layer
    return found
