"""Models of a few layers with the methods that stages and calibration call, and batches for each."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rcc.layers.units import Unit, find_units
from rcc.models.own.module import ModuleAdapter


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


def mixed_batches(count: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {
            "words": torch.randint(6, (4,), generator=generator),
            "images": torch.randn(4, 2, 5, 5, generator=generator),
            "labels": torch.randint(5, (4,), generator=generator),
        }
        for _ in range(count)
    ]


class SharedInputs:
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

    def double(self) -> SharedInputs:
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module)
        return twin


def token_batches(count: int = 3) -> list[dict[str, Tensor]]:
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


CHAIN_BIASES = 2 * (64 + 48 + 32)
CHAIN_VALUES = 48 * 64 + 64 * 48 + 48 * 32


def chain_with_norm() -> ModuleAdapter:
    """Three linear layers, 48 → 64 → 48 → 32, with a frozen norm between the last two."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 48), nn.LayerNorm(48), nn.Linear(48, 32))
    module[3].requires_grad_(False)
    return ModuleAdapter(module, outputs=lambda batch: {"out": module(batch["input"])})


def chain() -> ModuleAdapter:
    """Three linear layers, 48 → 64 → 48 → 32, whose outputs close over the network."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32))
    return ModuleAdapter(module, outputs=lambda batch: {"out": module(batch["input"])})
