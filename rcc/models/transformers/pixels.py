"""Prepare images as a processor of transformers does, to the bit, in fewer passes over their pixels.

What such a processor computes of a pixel, ((value · scale) − mean) / deviation in its own order and precision, depends
on the 256 values of a byte alone: it computes them once, and images are looked up in that table after Pillow resized
them and the middle was cut out.

Shapes: B images, C × H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

KNOWN = ("BlipImageProcessorPil", "CLIPImageProcessorPil", "SiglipImageProcessorPil", "ViTImageProcessorPil")
"""Processors that do what their settings say, in this order: resize, cut out the middle, scale, normalise."""
SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std", "do_pad", "do_convert_rgb",
)  # fmt: skip
LEVELS = 256
_PLANS: WeakKeyDictionary[Any, tuple[str, _Plan]] = WeakKeyDictionary()


def prepared(processor: Any, images: Sequence[Image.Image]) -> Tensor:
    """`pixel_values` (B, C, H, W) of RGB images, the same bits as `processor(images)` gives.

    A processor that is not of `KNOWN`, or has settings beyond theirs, is called itself.
    """
    plan = _Plan.of(processor)
    if plan is None:
        made: Tensor = processor(images=list(images), return_tensors="pt")["pixel_values"]
        return made
    found = [plan.pixels(image) for image in images]
    if len({each.shape for each in found}) > 1:  # sides that are not cut to one size: the processor's own words
        made = processor(images=list(images), return_tensors="pt")["pixel_values"]
        return made
    return torch.from_numpy(np.stack(found))


class _Plan:
    """What a processor of `KNOWN` does, with its table (C, 256) of values."""

    def __init__(self, processor: Any) -> None:
        size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
        self.shorter = size.get("shortest_edge") if processor.do_resize else None
        self.exactly = (size["width"], size["height"]) if processor.do_resize and self.shorter is None else None
        self.crop = None if crop is None else (crop["width"], crop["height"])
        self.resample = processor.resample
        ramp = np.repeat(np.arange(LEVELS, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
        made = processor(images=Image.fromarray(ramp), do_resize=False, do_center_crop=False, return_tensors="np")
        self.table: NDArray[np.float32] = made["pixel_values"][0].reshape(3, LEVELS)

    @classmethod
    def of(cls, processor: Any) -> _Plan | None:
        """The plan of a processor, made once; None of one that does something else."""
        if not _is_known(processor):
            return None
        said = repr([getattr(processor, name, None) for name in SETTINGS])  # a processor may be set anew at any time
        held = _PLANS.get(processor)
        if held is None or held[0] != said:
            held = _PLANS[processor] = (said, cls(processor))
        return held[1]

    def pixels(self, image: Image.Image) -> NDArray[np.float32]:
        """(C, H, W) of one RGB image."""
        width, height = image.size
        if self.exactly is not None:
            image = image.resize(self.exactly, self.resample)
        elif self.shorter is not None:
            short, long = min(width, height), max(width, height)
            other = int(self.shorter * long / short)
            image = image.resize((self.shorter, other) if width <= height else (other, self.shorter), self.resample)
        values = np.asarray(image)
        if self.crop is not None:
            values = _middle(values, *self.crop)
        found = np.empty((3, *values.shape[:2]), np.float32)
        for channel in range(3):
            np.take(self.table[channel], values[:, :, channel], out=found[channel], mode="clip")
        return found


def _is_known(processor: Any) -> bool:
    """Whether a processor is of `KNOWN`, and does nothing beyond what a plan does."""
    size = dict(getattr(processor, "size", None) or {})
    sides = {key for key, value in size.items() if value}
    return (
        type(processor).__name__ in KNOWN
        and sides in ({"shortest_edge"}, {"height", "width"})
        and not getattr(processor, "do_pad", None)
        and processor.resample is not None
        and (not processor.do_center_crop or {"height", "width"} <= set(dict(processor.crop_size or {})))
    )


def _middle(values: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The middle of an image (H, W, C), with black about one that is smaller; rounded as `center_crop` rounds."""
    tall, wide = values.shape[:2]
    top, left = (tall - height) // 2, (wide - width) // 2
    if top >= 0 and left >= 0:
        return values[top : top + height, left : left + width]
    from transformers.image_transforms import center_crop

    made: NDArray[np.uint8] = center_crop(values, (height, width), "channels_last", "channels_last")
    return made
