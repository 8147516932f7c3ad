"""Bytes of the tensors that one pass of a model has alive at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


@torch.no_grad()
def peak_bytes(run: Callable[[], object], module: nn.Module) -> int:
    """Most bytes alive at once in one call of `run`: parameters, buffers, inputs and activations.

    Counted are storages, so that views and tied weights count once, from the operation that makes one until Python
    lets it go. The same on every device and in every process, unlike what an allocator holds; scratch memory inside
    one operation is not seen.
    """
    with _Alive() as alive:
        alive.see((*module.parameters(), *module.buffers()))
        run()
    return alive.most


class _Alive(TorchDispatchMode):
    """Notes the storage of every tensor that an operation reads or makes, for as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._held = WeakIdKeyDictionary()

    def see(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._held.update(_memory(tensor))
        self.most = max(self.most, sum(self._held.values()))

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        self.see((args, kwargs, result))
        return result


def _memory(tensor: Tensor) -> list[tuple[Any, int]]:
    """What holds the values of `tensor`, and its bytes; a layout of oneDNN's own hides its padding."""
    if tensor.layout is torch.sparse_csr:
        parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
        return [memory for part in parts for memory in _memory(part)]
    if tensor.layout is not torch.strided:
        return [(tensor, tensor.numel() * tensor.element_size())]
    storage = tensor.untyped_storage()
    return [(storage, storage.nbytes())]
