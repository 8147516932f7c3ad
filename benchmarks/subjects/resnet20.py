"""Describes our own ResNet-20, trained by `train_resnet20.py` on 32-pixel photographs of ten classes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from equal_bytes.figures import Figure, paired_means, share
from equal_bytes.kept import keep, recall
from equal_bytes.limits import Goal, at_least
from torch import Tensor, nn

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from subjects.subject import Answers, Subject

CHECKPOINT = "resnet20.safetensors"
MODEL = "model."  # what the names of the network's tensors begin with in a checkpoint of the training
BATCH = 250
HELD = 2000  # images of the training split that the training does not see
CALIBRATION, CALIBRATION_BATCH = 512, 64
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class ResNetOnPhotographs(Subject):
    name = "resnet20"
    title = "ResNet-20, 5,000 photographs of 32 pixels in ten classes"
    figures_of: ClassVar[Mapping[str, tuple[str, str]]] = {
        "change": ("Δ top-1, points", "+.2f"),
        "agreement": ("agreement with dense, %", ".1f"),
        "top1": ("top-1, %", ".2f"),
    }
    goals: ClassVar[Mapping[float, Goal]] = {
        10.0: Goal([at_least("change", -0.5)], [at_least("change", -0.2)]),
        20.0: Goal([at_least("change", -3)], [at_least("change", -1.5)]),
    }
    note = (
        "Trained by benchmarks/train_resnet20.py. Calibration: 512 training images; selection: 2,000 of the training"
        " split that the training did not see."
    )

    def skeleton(self) -> nn.Module:
        network = ResNet20()
        network.load_state_dict(self._state())
        return network.eval().to(memory_format=torch.channels_last)

    def adapter(self, module: nn.Module) -> Adapter:
        return ModuleAdapter(module, outputs=lambda batch: {"logits": module(batch["inputs"])})

    def calibration(self) -> list[Batch]:
        images, _ = images_of("train", self.data, self.work)
        return [{"inputs": scaled(part)} for part in images[:CALIBRATION].split(CALIBRATION_BATCH)]

    def selection_quality(self, model: Adapter) -> float:
        images, labels = images_of("train", self.data, self.work)
        return (logits_of(model.module, images[-HELD:]).argmax(1) == labels[-HELD:]).double().mean().item()

    def answers(self, model: Adapter) -> Answers:
        images, labels = images_of("test", self.data, self.work)
        found = logits_of(model.module, images).argmax(1)
        return {"classes": found, "right": found == labels}

    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        return {
            "change": paired_means(answers["right"], dense["right"]).scaled(100),
            "agreement": share(answers["classes"] == dense["classes"]).scaled(100),
            "top1": share(answers["right"]).scaled(100),
        }

    def _state(self) -> dict[str, Tensor]:
        path = self.work / CHECKPOINT
        command = "python benchmarks/train_resnet20.py --data <folder of data sets> --work <the same folder>"
        if not path.exists():
            raise UserError(f"no {path}: the network is trained first, in about twenty minutes of one core: {command}")
        kept, facts = recall(path)
        if facts["done"] < facts["epochs"]:
            raise UserError(f"{path} is of epoch {facts['done']:g} of {facts['epochs']:g}; go on with: {command}")
        return {name.removeprefix(MODEL): tensor for name, tensor in kept.items() if name.startswith(MODEL)}


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
    path = work / f"cifar10_{split}.safetensors"
    if not path.exists():
        import pyarrow.parquet
        from PIL import Image

        table = pyarrow.parquet.read_table(data / "cifar10" / f"{split}.parquet").to_pydict()
        decoded = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"]])
        keep(path, {"images": torch.from_numpy(decoded).permute(0, 3, 1, 2), "labels": torch.tensor(table["label"])})
    kept, _ = recall(path)
    return kept["images"], kept["labels"]


def scaled(images: Tensor) -> Tensor:
    """Bytes → floats of zero mean and unit deviation a channel."""
    mean, deviation = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float() - mean) / deviation


@torch.inference_mode()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(scaled(part)) for part in images.split(BATCH)])
