"""Networks as users write them, imported by their path: convolutions and batch norms, torch's own attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + self.shortcut(x)).relu()


class ResNet(nn.Module):
    """Logits (B, classes) of pixels (B, channels, H, W)."""

    def __init__(self, classes: int = 10, width: int = 8, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 1, 1)
        self.blocks = nn.Sequential(Block(width, width, 1), Block(width, 2 * width, 2))
        self.head = nn.Linear(2 * width, classes)
        self.register_buffer("shift", torch.full((1,), 0.25), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x + self.shift)).mean((2, 3)))


class Attentive(nn.Module):
    """Patches through torch's own transformer layer, whose fast path would go past the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.layer(self.patch(x).flatten(2).mT).mean(1))}


class Sentences(nn.Module):
    """The states of tokens (B, L, 8), and the mean of those that count (B, 8)."""

    def __init__(self, vocabulary: int = 80) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(vocabulary, 8), nn.Linear(8, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        states = self.inner(self.table(input_ids)).tanh()
        counted = attention_mask[..., None]
        return {"states": states, "pooled": (states * counted).sum(1) / counted.sum(1)}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight


class Named(ResNet):
    """Made by a method of its own, as published packages do."""

    def __init__(self, classes: int, depth: int, width: int = 8) -> None:
        super().__init__(classes, width)
        self.depth = depth

    @classmethod
    def from_name(cls, name: str) -> Named:
        return cls({"five": 5, "six": 6}[name], depth=2)


def build(classes: int = 10) -> ResNet:
    return ResNet(classes)


def nothing() -> str:
    return "no module"


def failing() -> None:
    raise RuntimeError("out of paper")


number = 7
