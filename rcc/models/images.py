"""Turn raw images of the kinds users have into the PIL images that image processors take."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from rcc.errors import Problems


def pictures(images: Any) -> list[Image.Image]:
    """RGB images for one or several PIL images or uint8 arrays H × W × 3.

    Raises:
        UserError: nothing given, or an item of another kind; every such item is named.
    """
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    problems = Problems("images")
    found = []
    for index, image in enumerate(images):
        if isinstance(image, Image.Image):
            found.append(image.convert("RGB"))
        elif problems.check(
            _is_uint8_rgb(image),
            f"item {index} is {_kind(image)}; it must be a PIL image or a uint8 array H × W × 3.",
        ):
            found.append(Image.fromarray(image))
    problems.check(bool(found or problems.found), "there are none.")
    problems.done()
    return found


def _is_uint8_rgb(image: Any) -> bool:
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def _kind(image: Any) -> str:
    return f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
