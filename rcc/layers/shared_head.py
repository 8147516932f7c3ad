"""Multiply by the table of token embeddings as a last layer, whatever form the table is held in.

Language models share the weight of an `nn.Linear`, their head, with an `nn.Embedding`. Two layers of different kinds
cannot hold one form; a head that asks the table for its rows leaves the weight with one owner, which can be pruned,
factorised or rounded.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SharedHead(nn.Module):
    """Logits (…, V) of states (…, D): their products with the rows of the table `owner.<name>`, plus `bias` (V,)."""

    bias: nn.Parameter | None

    def __init__(self, owner: nn.Module, name: str, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.register_parameter("bias", bias)
        # In a tuple, so that the table has one name in the model; looked up anew, because its module may be replaced.
        self._owner, self._name = (owner,), name

    @property
    def weight(self) -> Tensor:
        """The rows of the table (V, D): its own parameter where it is held plainly."""
        return self._rows(torch.device("cpu"))

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self._rows(states.device).to(states.dtype), self.bias)

    def _rows(self, device: torch.device) -> Tensor:
        table: Any = self._owner[0].get_submodule(self._name)
        weight = table.weight if type(table) is nn.Embedding else None
        if weight is None or weight.is_meta:  # in a form of its own, or there only while it is called
            weight = table(torch.arange(table.num_embeddings, device=device))
        return weight


def open_shared_heads(root: nn.Module) -> None:
    """Put a `SharedHead` in place of every linear layer of `root` whose weight is that of an embedding, in place.

    An embedding with a forward of its own, such as one that scales its rows, is left: its rows are not its weight.
    """
    tables = {
        id(module.weight): (root.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
        for name, module in reversed(list(root.named_modules()))
        if name and type(module) is nn.Embedding and module.max_norm is None and "weight" in module._parameters
    }
    for name, module in list(root.named_modules()):
        table = tables.get(id(getattr(module, "weight", None)))
        if name and type(module) is nn.Linear and table is not None:
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, SharedHead(*table, module.bias))
