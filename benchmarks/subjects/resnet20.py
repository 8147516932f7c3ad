"""Describes our own ResNet-20 on 32-pixel photographs: network, images, accuracy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CHECKPOINT = "resnet20.pt"
BATCH = 250
HELD = 2000  # images of the training split that the training does not see
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut: subsampled and padded with zero channels where the size changes.

    Source: He et al., "Deep residual learning for image recognition", 2016, section 4.2, option A.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.grown = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        if self.grown:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.grown))
        hidden = torch.relu(self.norm1(self.conv1(inputs)))
        return torch.relu(self.norm2(self.conv2(hidden)) + shortcut)


class ResNet20(nn.Module):
    """(n, 3, 32, 32) → (n, 10); three groups of three blocks with 16, 32, 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        sizes = (
            (16, 16, 1),
            (16, 16, 1),
            (16, 16, 1),
            (16, 32, 2),
            *[(32, 32, 1)] * 2,
            (32, 64, 2),
            *[(64, 64, 1)] * 2,
        )
        self.blocks = nn.Sequential(*(Block(*size) for size in sizes))
        self.head = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.blocks(torch.relu(self.norm(self.conv(inputs))))
        return self.head(hidden.mean((2, 3)))


def images_of(split: str, data: Path, work: Path) -> tuple[Tensor, Tensor]:
    """(n, 3, 32, 32) bytes and (n,) labels of `split`, decoded once and kept in `work`."""
    path = work / f"cifar10_{split}.pt"
    if not path.exists():
        import pyarrow.parquet
        from PIL import Image

        table = pyarrow.parquet.read_table(data / "cifar10" / f"{split}.parquet").to_pydict()
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"]])
        work.mkdir(parents=True, exist_ok=True)
        torch.save((torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous(), torch.tensor(table["label"])), path)
    images, labels = torch.load(path, weights_only=True)
    return images, labels


def scaled(images: Tensor) -> Tensor:
    """Bytes → floats of zero mean and unit deviation a channel."""
    mean, deviation = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float() - mean) / deviation


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    logits = torch.cat([model(scaled(part)) for part in images.split(BATCH)])
    return (logits.argmax(1) == labels).double().mean().item()
