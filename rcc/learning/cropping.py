"""Augmentation for photographs: a random crop, a mirror image, and slightly other colours of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.errors import Problems

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
ASPECTS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Crop:
    """Draws, for each image, a part of it of at least the share `area`, mirrors it with probability `flip`, and
    changes brightness, contrast and saturation by up to ± `jitter`, all independent and uniform.

    The crop follows Szegedy et al. (2015): its area is uniform in [`area`, 1] and the logarithm of its aspect ratio
    uniform between 3:4 and 4:3; what would reach beyond the image is cut to it.
    """

    area: float = 0.5
    flip: float = 0.5
    jitter: float = 0.2

    def __post_init__(self) -> None:
        problems = Problems("augmentation")
        problems.within("area", self.area, "(0, 1]")
        problems.within("flip", self.flip, "[0, 1]")
        problems.within("jitter", self.jitter, "[0, 1)")
        problems.done()

    def __call__(self, pixels: Tensor, generator: torch.Generator, side: int) -> Tensor:
        """(B, 3, side, side) from `pixels` (B, 3, H, W), interpolated bilinearly."""
        count = len(pixels)
        drawn = torch.rand(8, count, generator=generator).to(pixels)
        area = self.area + (1 - self.area) * drawn[0]
        aspect = ASPECTS[0] * (ASPECTS[1] / ASPECTS[0]) ** drawn[1] if self.area < 1 else torch.ones_like(area)
        wide, high = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        # affine_grid measures from -1 to 1; a window of share w can move by 1 - w to either side of the middle.
        across, down = (2 * drawn[2] - 1) * (1 - wide), (2 * drawn[3] - 1) * (1 - high)
        mirrored = torch.where(drawn[4] < self.flip, -wide, wide)
        none = torch.zeros_like(wide)
        rows = [torch.stack([mirrored, none, across], 1), torch.stack([none, high, down], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), [count, 3, side, side], align_corners=False)
        cropped = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        return self._coloured(cropped, (2 * drawn[5:] - 1) * self.jitter)

    def _coloured(self, pixels: Tensor, change: Tensor) -> Tensor:
        """Brightness moves by its change times the images' own spread, contrast about each image's mean, saturation
        about its grey."""
        brightness, contrast, saturation = (part.view(-1, 1, 1, 1) for part in change)
        grey = (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        pixels = grey + (pixels - grey) * (1 + saturation)
        mean, spread = pixels.mean((1, 2, 3), keepdim=True), pixels.std((1, 2, 3), keepdim=True)
        return mean + (pixels - mean) * (1 + contrast) + spread * brightness
