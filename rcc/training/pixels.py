"""Hold the pixels of a split, decoded once: uint8, all of one size, normalised batch by batch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rcc.data.files.images import Images
from rcc.errors import UserError
from rcc.models.adapter import Adapter
from rcc.models.images import resizing_problem


class Pixels:
    """Square pixels of N images in memory, (N, side, side, 3) uint8, and how the model's processor scales them.

    Args:
        adapter: its processor says what each of the 256 levels of a colour becomes.
        images: decoded here, one by one.
        side: of the middle square that is kept of each, in pixels.
        limit: most bytes that the pixels may take.
    """

    def __init__(self, adapter: Adapter, images: Images, side: int, limit: int) -> None:
        """Raises:
        UserError: the pixels would take more than `limit`, or an image cannot be decoded or is too thin.
        """
        needed = len(images) * side * side * 3
        if needed > limit:
            raise UserError(
                f"training: {len(images)} images of {side} × {side} pixels take {needed / 1e6:,.2f} MB of memory and"
                f" {limit / 1e6:,.2f} MB are allowed; take fewer (data.train=), smaller ones"
                " (trainer.architecture.image=) or allow more (trainer.memory_megabytes=)."
            )
        self.stored = np.empty((len(images), side, side, 3), np.uint8)
        for index, image in enumerate(images):
            if problem := resizing_problem(image.size, side, images.name(index)):
                raise UserError(f"training: {problem}")
            self.stored[index] = middle_square(image, side)
        # A processor scales every pixel by itself, so plain images of each level say all that it does.
        grey = [Image.new("RGB", (side, side), (level,) * 3) for level in range(256)]
        self.levels = adapter.prepare(images=grey)["pixel_values"][:, :, 0, 0]

    @property
    def black(self) -> Tensor:
        """(3,), what the processor makes of black."""
        return self.levels[0]

    def __call__(self, chosen: Tensor) -> Tensor:
        """(B, 3, side, side) of the images `chosen` (B,), on the adapter's device, with the values that its processor
        gives."""
        pixels = torch.from_numpy(self.stored[chosen.cpu().numpy()]).to(self.levels.device).long()
        return torch.stack([self.levels[:, colour][pixels[..., colour]] for colour in range(3)], 1)


def middle_square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """(side, side, 3): the shorter side of an RGB image becomes `side` by bicubic interpolation, the rest is cut."""
    shorter = min(image.size)
    if shorter != side:
        scale = Fraction(side, shorter)
        width, height = (max(side, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
