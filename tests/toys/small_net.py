"""A convolution, a norm, dropout and two linear layers, as a stage sees a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcc.layers.units import Unit, find_units


class SmallNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.LayerNorm(12)
        self.hidden = nn.Linear(12, 16)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.conv(images).relu().mean((2, 3)))
        return self.head(self.dropout(torch.tanh(self.hidden(features))))


class SmallModel:
    """Images (n, 3, 6, 6) to one output, 'features' (n, 10); the loss is that of the labels."""

    default_roles = ("linear", "conv")

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module: nn.Module = SmallNet()

    def units(self) -> list[Unit]:
        return find_units(self.module)

    def unit(self, name: str) -> Unit:
        return next(unit for unit in self.units() if unit.name == name)

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"features": self.module(batch["images"])}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.module(batch["images"]), batch["labels"])


def batches(count: int = 4, size: int = 8) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "images": torch.randn(size, 3, 6, 6, generator=generator),
            "labels": torch.randint(10, (size,), generator=generator),
        }
        for _ in range(count)
    ]
