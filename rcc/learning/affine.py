"""Augmentation for small images: a random rotation, scale and shift of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.errors import Problems


@dataclass(frozen=True)
class Affine:
    """Draws, for each image, a rotation of up to ± `degrees`, a scale of 1 ± `scale` and a shift of up to
    ± `shift` of the image's side along either axis, all uniform."""

    degrees: float = 14.0
    scale: float = 0.15
    shift: float = 0.075

    def __post_init__(self) -> None:
        problems = Problems("augmentation")
        problems.within("degrees", self.degrees, "[0, 180]")
        problems.within("scale", self.scale, "[0, 1)")
        problems.within("shift", self.shift, "[0, 1]")
        problems.done()

    def __call__(self, pixels: Tensor, generator: torch.Generator, background: Tensor) -> Tensor:
        """`pixels` (B, C, H, W) moved; what comes in from outside has the value `background` (C,)."""
        count = len(pixels)

        def uniform(limit: float, *shape: int) -> Tensor:
            return (2 * torch.rand(count, *shape, generator=generator) - 1) * limit

        angle, zoom = torch.deg2rad(uniform(self.degrees)), 1 + uniform(self.scale)
        # affine_grid measures in half sides, hence the factor of 2.
        shift = uniform(2 * self.shift, 2)
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
        grid = F.affine_grid(torch.stack(rows, 1).to(pixels), list(pixels.shape), align_corners=False)
        outside = background.to(pixels).view(1, -1, 1, 1)
        return F.grid_sample(pixels - outside, grid, align_corners=False) + outside
