"""Hold items of a data set as files hold them: bytes that are read when one is asked for, each with a name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from rcc.data.fields import Field
from rcc.errors import UserError
from rcc.limits import read_bytes

READERS = 4  # threads that read files for checksums; they wait for the disk, not for a core
BLOCK = 64  # items a thread is given at a time; handing them out singly costs more than small ones take


class EncodedFiles(Field):
    """Encoded files: `stored(i)` reads the bytes of the i-th from wherever they are.

    Args:
        names: of all items that `stored` can read.
        stored: the encoded bytes of one of them; may raise OSError.
        indices: which of them this is, in order; all by default.
    """

    limit: ClassVar[str]
    """The name of the limit of a file's bytes."""
    noun: ClassVar[str]
    """What an item is called in messages."""

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
        """Files; they are read each time anew, so memory holds none."""
        names = [str(path) for path in paths]
        return cls(names, lambda index: read_bytes(Path(names[index]), limit=cls.limit))

    def __len__(self) -> int:
        return len(self.indices)

    def encoded(self, index: int) -> bytes:
        """The bytes of an item.

        Raises:
            UserError: they cannot be read; names the item.
        """
        try:
            return self.stored(int(self.indices[index]))
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"{self.noun} '{self.name(index)}' cannot be read: {reason}.") from error

    def name(self, index: int) -> str:
        return str(self.names[int(self.indices[index])])

    def subset(self, indices: NDArray[np.int64]) -> Self:
        return type(self)(self.names, self.stored, self.indices[indices])

    def digests(self) -> list[bytes]:
        def of_block(start: int) -> list[bytes]:
            indices = range(start, min(start + BLOCK, len(self)))
            return [hashlib.sha256(self.encoded(index)).digest() for index in indices]

        with ThreadPoolExecutor(READERS) as readers:
            blocks = readers.map(of_block, range(0, len(self), BLOCK))
            return [digest for block in blocks for digest in block]
