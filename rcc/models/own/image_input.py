"""Turn images into the pixels of a network that has no image processor of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rcc.errors import Problems
from rcc.models.images import pictures

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImageInput:
    """The shorter side resized to `resize`, the middle `size` × `size` cut out, values scaled to [0, 1], less `mean`,
    over `std`.

    Args:
        size: side of the network's input in pixels.
        resize: of the shorter side before cutting; None for `size`.
        channels: 3 for colour, 1 for grey.
        mean, std: one number for each channel; None for ImageNet's (its mean over the channels where there is one).
        interpolation: nearest, bilinear, bicubic or lanczos.

    Raises:
        UserError: every option that is out of range, at once.
    """

    size: int = 224
    resize: int | None = None
    channels: int = 3
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        problems = Problems("the network's images")
        problems.check(_whole(self.size), f"image_size is {self.size}; it must be a whole number ≥ 1, in pixels.")
        if _whole(self.size):
            enough = self.resize is None or (_whole(self.resize) and self.resize >= self.size)
            problems.check(enough, f"resize is {self.resize}; it must be at least image_size, {self.size}.")
        problems.check(self.channels in MODES, f"channels is {self.channels}; it must be 1 (grey) or 3 (colour).")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers = values is None or (
                isinstance(values, Sequence)
                and len(values) == self.channels
                and all(_finite(value) for value in values)
            )
            problems.check(numbers, f"{name} is {values}; it must be a number for each of {self.channels} channels.")
            if numbers and values is not None and name == "std":
                problems.check(min(values) > 0, f"std is {values}; every number must be above 0.")
        problems.choice("interpolation", self.interpolation, INTERPOLATIONS)
        problems.done()

    def pixels(self, images: Any) -> Tensor:
        """(B, channels, size, size) float32 of PIL images or uint8 arrays H × W × 3, one or several."""
        return torch.stack([self._one(image) for image in pictures(images, self._shorter)])

    def _one(self, image: Image.Image) -> Tensor:
        shorter = self._shorter
        # Whole numbers: 39 × (15 / 13) is 44.99… in floating point, and a processor of transformers makes it 45.
        width, height = (side * shorter // min(image.size) for side in image.size)
        image = image.convert(MODES[self.channels]).resize((width, height), INTERPOLATIONS[self.interpolation])
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        image = image.crop((left, top, left + self.size, top + self.size))
        values = torch.from_numpy(np.array(image, dtype=np.float32) / 255).reshape(self.size, self.size, self.channels)
        mean, std = (torch.tensor(each) for each in self.moments())
        return ((values - mean) / std).permute(2, 0, 1).contiguous()

    @property
    def _shorter(self) -> int:
        """Pixels of the shorter side before the middle is cut out."""
        return self.size if self.resize is None else self.resize

    def moments(self) -> tuple[list[float], list[float]]:
        """(mean, std), a number a channel, of values in [0, 1]."""
        found = []
        for given, usual in ((self.mean, IMAGENET_MEAN), (self.std, IMAGENET_STD)):
            own = usual if self.channels == len(usual) else [sum(usual) / len(usual)]
            found.append([float(value) for value in (own if given is None else given)])
        return found[0], found[1]

    def to_json(self) -> dict[str, Any]:
        """What makes the same one again: `ImageInput(**content)`."""
        mean, std = self.moments()
        return {
            "size": self.size, "resize": self._shorter, "channels": self.channels, "mean": mean, "std": std,
            "interpolation": self.interpolation,
        }  # fmt: skip


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
