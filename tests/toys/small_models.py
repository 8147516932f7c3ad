"""A model with a unit of every kind and a loss of labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixed:
    """A word and an image to five classes: embedding, convolution, norm, two linear layers; `idle` never runs."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.module = nn.ModuleDict(
                {
                    "words": nn.Embedding(6, 4),
                    "conv": nn.Conv2d(2, 4, 3, stride=2),
                    "norm": nn.LayerNorm(4),
                    "hidden": nn.Linear(4, 7),
                    "drop": nn.Dropout(0.5),
                    "head": nn.Linear(7, 5, bias=False),
                    "idle": nn.Linear(3, 3),
                }
            )

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        part = self.module
        both = part["words"](batch["words"]) + part["conv"](batch["images"]).relu().mean((2, 3))
        hidden = part["drop"](torch.tanh(part["hidden"](part["norm"](both))))
        return nn.functional.cross_entropy(part["head"](hidden), batch["labels"])


def batches(count: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {
            "words": torch.randint(6, (4,), generator=generator),
            "images": torch.randn(4, 2, 5, 5, generator=generator),
            "labels": torch.randint(5, (4,), generator=generator),
        }
        for _ in range(count)
    ]
