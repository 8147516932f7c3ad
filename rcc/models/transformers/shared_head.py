"""Multiply by the table of word embeddings as a last layer, whatever form the table is held in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SharedHead(nn.Module):
    """Logits (…, V) of states (…, D): their products with the rows of the table `owner.word_embeddings`, plus `bias`
    (V,).

    It takes the place of an nn.Linear that shares its weight with an nn.Embedding. The weight then has one owner, which
    can be pruned, factorised or rounded; the head asks it for its rows.
    """

    def __init__(self, owner: nn.Module, bias: nn.Parameter) -> None:
        super().__init__()
        self.bias = bias
        # In a tuple, so that the table has one name in the model; looked up anew, because its module may be replaced.
        self._owner = (owner,)

    def forward(self, states: Tensor) -> Tensor:
        table = self._owner[0].get_submodule("word_embeddings")
        weight = table.weight if type(table) is nn.Embedding else None
        if weight is None or weight.is_meta:  # in a form of its own, or there only while it is called
            weight = table(torch.arange(len(self.bias), device=states.device))
        return F.linear(states, weight.to(states.dtype), self.bias)
