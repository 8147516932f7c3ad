"""Images of a data set, decoded one by one when asked for, each with a name and a checksum.

What is kept is what was stored: pixels, or the bytes or path of an encoded file. Nothing is decoded twice into memory,
so a split of any length costs what its files cost.
"""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rcc.data.fields import Field
from rcc.data.files.encoded import EncodedFiles
from rcc.errors import Problems, UserError
from rcc.limits import how_to_raise, limits

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is decoded. Others that Pillow knows are no rasters: it would start Ghostscript for an EPS."""
LEAVE_OUT = "Remove or replace the file, or have unreadable images left out with data.unreadable=skip."


class Images(Field, Sequence[Image.Image]):
    """A sequence of RGB images of any sizes; a slice or `subset` of it shares what is stored."""

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Self:
        """The image at `index`, decoded now; or, for a slice, those images, not decoded.

        Raises:
            IndexError: no image there.
            UserError: it cannot be decoded; the message has its name and the reason.
        """
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._decoded(index % len(self))

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[index] for index in range(len(self)))

    @abstractmethod
    def _decoded(self, index: int) -> Image.Image: ...


class ArrayImages(Images):
    """Pixels in memory: `array` (N, H, W, 3) uint8."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        """Raises:
        UserError: another dtype or shape.
        """
        problems = Problems("images")
        problems.check(
            array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3,
            f"they are {array.dtype} of shape {array.shape}; they must be uint8 of shape (N, H, W, 3).",
        )
        problems.done()
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def _decoded(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index])

    def name(self, index: int) -> str:
        return f"image {index}"

    def subset(self, indices: NDArray[np.int64]) -> Self:
        return type(self)(self.array[indices])

    def digests(self) -> list[bytes]:
        shape = repr(self.array.shape[1:]).encode()
        return [hashlib.sha256(shape + image.tobytes()).digest() for image in self.array]


class EncodedImages(EncodedFiles, Images):
    """Images as files hold them (JPEG, PNG, …), see `EncodedFiles`."""

    limit = "image_bytes"
    noun = "image"

    def _decoded(self, index: int) -> Image.Image:
        return decoded(self.encoded(index), self.name(index))


def decoded(encoded: bytes, name: str) -> Image.Image:
    """An RGB image from the bytes of a file. Grey, palette, CMYK and transparent images are converted.

    Raises:
        UserError: the bytes are not an image of one of `FORMATS`, end too early, or are of more pixels or thinner than
            `limits` allow.
    """
    try:
        _let_pillow_open(limits.image_pixels)
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            _check_size(image.size, name)
            decoded: Any = image.convert("RGB")
    except UserError:
        raise
    except UnidentifiedImageError as error:  # it shows an object's address
        begins = f"it begins with {encoded[:8]!r}" if encoded else "it is empty"
        raise _undecodable(name, f"it is none of {', '.join(FORMATS)}: {begins}") from error
    except Exception as error:  # on damaged files the library's readers raise errors of any kind
        raise _undecodable(name, f"{type(error).__name__}: {error}") from error
    decoded.filename = name  # as the library calls it in images of files: messages of later steps use it
    return cast("Image.Image", decoded)


def _let_pillow_open(most: int) -> None:
    """Pillow refuses twice its own limit by itself; a higher one of ours is the user's own wish."""
    if Image.MAX_IMAGE_PIXELS is not None and most > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = most


def _check_size(size: tuple[int, int], name: str) -> None:
    """Refuse an image by its header, before memory is asked for."""
    width, height = size
    if width * height > limits.image_pixels:
        raise UserError(
            f"image '{name}' has {width} × {height} pixels and at most {limits.image_pixels} are decoded. {LEAVE_OUT}"
            f" {how_to_raise('image_pixels')}"
        )
    if max(size) > limits.image_aspect * min(size):
        raise UserError(
            f"image '{name}' has {width} × {height} pixels: its longer side is more than {limits.image_aspect} times"
            f" its shorter one. {LEAVE_OUT} {how_to_raise('image_aspect')}"
        )


def _undecodable(name: str, reason: str) -> UserError:
    return UserError(f"image '{name}' cannot be decoded ({reason}). {LEAVE_OUT}")
