"""Take images as users have them: paths, encoded bytes, PIL images, arrays, one or many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rcc.data.files.images import decoded
from rcc.errors import Problems, UserError
from rcc.limits import read_bytes

KINDS = "a path, the bytes of an image file, a PIL image, or a uint8 array H × W × 3"


def several(images: Any) -> list[Any]:
    """The images one by one, not decoded yet: one alone, several, or an array (N, H, W, 3).

    Raises:
        UserError: there are none, or one is of another kind; every such item is named.
    """
    if isinstance(images, str | Path | bytes | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    if not isinstance(images, Sequence | np.ndarray):
        raise UserError(f"images are {type(images).__name__}; give one image or several, each {KINDS}.")
    found, problems = list(images), Problems("images")
    problems.check(bool(found), f"there are none; give one or several, each {KINDS}.")
    for place, image in enumerate(found):
        problems.check(_is_image(image), f"item {place} is {_kind(image)}; it must be {KINDS}.")
    problems.done()
    return found


def taken(image: Any) -> Any:
    """The image, decoded where it is a path or the bytes of a file; others as they are.

    Raises:
        UserError: it cannot be read or decoded.
    """
    if isinstance(image, bytes):
        return decoded(image, "image")
    if not isinstance(image, str | Path):
        return image
    try:
        return decoded(read_bytes(Path(image), limit="image_bytes"), str(image))
    except OSError as error:
        raise UserError(f"image '{image}' cannot be read: {error.strerror or error}.") from error


def _is_image(image: Any) -> bool:
    if isinstance(image, np.ndarray):
        return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    return isinstance(image, str | Path | bytes | Image.Image)


def _kind(image: Any) -> str:
    return f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
