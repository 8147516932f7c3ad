"""Images of a data set, decoded one by one when asked for, each with a name and a checksum.

What is kept is what was stored: pixels, or the bytes or path of an encoded file. Nothing is decoded twice into memory,
so a split of any length costs what its files cost.
"""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rcc.data.fields import Field
from rcc.errors import Problems, UserError

READERS = 4  # threads that read files for checksums; they wait for the disk, not for a core
BLOCK = 64  # images a thread is given at a time; handing them out singly costs more than small ones take


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


class EncodedImages(Images):
    """Images as files hold them (JPEG, PNG, …): `stored(i)` reads the bytes of the i-th from wherever they are.

    Args:
        names: of all images `stored` can read.
        stored: the encoded bytes of one of them; may raise OSError.
        indices: which of them this is, in order; all by default.
    """

    def __init__(
        self,
        names: Sequence[str],
        stored: Callable[[int], bytes],
        indices: NDArray[np.int64] | None = None,
    ) -> None:
        self.names, self.stored = names, stored
        self.indices = np.arange(len(names)) if indices is None else indices

    @classmethod
    def of_files(cls, paths: Sequence[Path | str]) -> Self:
        """Image files; they are read each time anew, so memory holds none."""
        names = [str(path) for path in paths]
        return cls(names, lambda index: Path(names[index]).read_bytes())

    def __len__(self) -> int:
        return len(self.indices)

    def _decoded(self, index: int) -> Image.Image:
        return decoded(self._bytes(index), self.name(index))

    def _bytes(self, index: int) -> bytes:
        try:
            return self.stored(int(self.indices[index]))
        except OSError as error:
            raise UserError(f"image '{self.name(index)}' cannot be read: {error}.") from error

    def name(self, index: int) -> str:
        return str(self.names[int(self.indices[index])])

    def subset(self, indices: NDArray[np.int64]) -> Self:
        return type(self)(self.names, self.stored, self.indices[indices])

    def digests(self) -> list[bytes]:
        def of_block(start: int) -> list[bytes]:
            indices = range(start, min(start + BLOCK, len(self)))
            return [hashlib.sha256(self._bytes(index)).digest() for index in indices]

        with ThreadPoolExecutor(READERS) as readers:
            blocks = readers.map(of_block, range(0, len(self), BLOCK))
            return [digest for block in blocks for digest in block]


def decoded(encoded: bytes, name: str) -> Image.Image:
    """An RGB image from the bytes of a file. Grey, palette, CMYK and transparent images are converted.

    Raises:
        UserError: the bytes are not an image, or end too early.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"image '{name}' cannot be decoded ({type(error).__name__}: {error}). Remove or replace the file, or have "
            "unreadable images left out with data.unreadable=skip."
        ) from error
