"""A small model of shared inputs, padding and a convolution, and its dense double."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Model:
    """Tokens through q and k (one input) and then `out`; images through a convolution; `idle` never runs."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.calls = 0
        self.module = nn.ModuleDict(
            {
                "q": nn.Linear(6, 4),
                "k": nn.Linear(6, 4, bias=False),
                "out": nn.Linear(4, 3),
                "conv": nn.Conv2d(2, 4, 3, stride=2, padding=1),
                "idle": nn.Linear(7, 2),
            }
        )

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        part = self.module
        tokens = batch["tokens"]
        mixed = part["q"](tokens).sigmoid() * part["k"](input=tokens)
        return {"text": part["out"](mixed), "image": part["conv"](batch["images"])}

    def double(self) -> Model:
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module)
        return twin


def batches(count: int = 3) -> list[dict[str, Tensor]]:
    """Batches of different lengths, whose second item is padded from its third token on."""
    generator = torch.Generator().manual_seed(4)
    made = []
    for length in range(3, 3 + count):
        mask = torch.ones(2, length, dtype=torch.int64)
        mask[1, 2:] = 0
        made.append(
            {
                "tokens": torch.randn(2, length, 6, generator=generator),
                "images": torch.randn(2, 2, 9, 8, generator=generator),
                "attention_mask": mask,
            }
        )
    return made
