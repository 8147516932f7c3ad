"""Turn raw images of the kinds users have into the PIL images that image processors take."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from rcc.errors import Problems
from rcc.limits import how_to_raise, limits


def pictures(images: Any, shorter: int | None = None) -> list[Image.Image]:
    """RGB images for one or several PIL images or uint8 arrays H × W × 3.

    Args:
        shorter: pixels that the shorter side of each is resized to next; None where no side follows from the other.

    Raises:
        UserError: nothing given, an item of another kind, or one that would become too large; every such item is
            named.
    """
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    problems = Problems("images")
    found = []
    for index, image in enumerate(images):
        picture = isinstance(image, Image.Image)
        if not problems.check(
            picture or _is_uint8_rgb(image),
            f"item {index} is {_kind(image)}; it must be a PIL image or a uint8 array H × W × 3.",
        ):
            continue
        size = image.size if picture else (image.shape[1], image.shape[0])
        problem = resizing_problem(size, shorter, getattr(image, "filename", "") or f"item {index}")
        if problems.check(not problem, problem):
            found.append(image.convert("RGB") if picture else Image.fromarray(image))
    problems.check(bool(found or problems.found), "there are none.")
    problems.done()
    return found


def resizing_problem(size: tuple[int, int], shorter: int | None, name: str) -> str:
    """Why an image of `size` (width, height) may not be resized so that its shorter side has `shorter` pixels; empty
    where it may. Of a thin image the longer side becomes huge."""
    least, most = min(size), max(size)
    if least < 1:
        return f"'{name}' has {size[0]} × {size[1]} pixels: there is nothing to see."
    longer = 0 if shorter is None else -(-most * shorter // least)
    if shorter is None or shorter * longer <= limits.image_pixels:
        return ""
    return (
        f"'{name}' of {size[0]} × {size[1]} pixels would become {shorter} × {longer} when its shorter side is resized,"
        f" and at most {limits.image_pixels} pixels are made. Crop it or leave it out. {how_to_raise('image_pixels')}"
    )


def _is_uint8_rgb(image: Any) -> bool:
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def _kind(image: Any) -> str:
    return f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
