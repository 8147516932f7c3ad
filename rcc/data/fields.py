"""Hold one named column of a split: texts, labels, waveforms, graphs, or images that are decoded when asked for.

A field is indexed, cut and checksummed without a word about what its values mean; the adapter that reads it knows.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rcc.errors import UserError


class Field(ABC):
    """N values that can be taken one by one; `subset` shares what is stored."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: Any) -> Any:
        """The value at an index, or for a slice the field of those values."""

    @abstractmethod
    def subset(self, indices: NDArray[np.int64]) -> Self:
        """The values at `indices`, in that order."""

    @abstractmethod
    def digests(self) -> list[bytes]:
        """SHA-256 of each value as it is stored."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of the value in messages."""


class Values(Field):
    """Values in memory: an array (N, …), or a sequence of N strings, numbers, arrays, tuples or mappings of these.

    Arrays of a sequence may differ in shape, as waveforms and graphs do.
    """

    def __init__(self, values: NDArray[Any] | Sequence[Any]) -> None:
        self.values = values if isinstance(values, np.ndarray) else tuple(values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        found = self.values[index]
        return type(self)(found) if isinstance(index, slice) else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def subset(self, indices: NDArray[np.int64]) -> Self:
        if isinstance(self.values, np.ndarray):
            return type(self)(self.values[indices])
        return type(self)([self.values[index] for index in indices])

    def digests(self) -> list[bytes]:
        """Raises:
        UserError: a value of a kind whose bytes are not known, such as an object of one's own.
        """
        found = []
        for value in self.values:
            checksum = hashlib.sha256()
            _update(checksum, value)
            found.append(checksum.digest())
        return found

    def name(self, index: int) -> str:
        return f"item {index}"


class Named(Values):
    """Values with a name each, as documents have ids.

    Raises:
        UserError: there are more or fewer names than values.
    """

    def __init__(self, values: NDArray[Any] | Sequence[Any], names: Sequence[str]) -> None:
        super().__init__(values)
        self.names = tuple(names)
        if len(self.names) != len(self):
            raise UserError(f"data: there are {len(self.names)} names for {len(self)} values.")

    def __getitem__(self, index: Any) -> Any:
        found = self.values[index]
        return type(self)(found, self.names[index]) if isinstance(index, slice) else found

    def subset(self, indices: NDArray[np.int64]) -> Self:
        return type(self)([self.values[index] for index in indices], [self.names[index] for index in indices])

    def name(self, index: int) -> str:
        return self.names[index]


def as_field(values: Any) -> Field:
    """`values` itself if it is a field, else an array or a sequence as one."""
    return values if isinstance(values, Field) else Values(values)


def _update(checksum: Any, value: Any) -> None:
    """Feed a value with its kind and its extent, so that no two different values give the same bytes."""
    if hasattr(value, "detach"):  # a tensor, of which numpy knows the bytes
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise _unknown(value)
        checksum.update(f"array {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    elif isinstance(value, (str, bytes, bool, int, float, type(None))):
        written = repr(value).encode()
        checksum.update(f"{type(value).__name__} {len(written)} ".encode() + written)
    elif isinstance(value, (tuple, list)):
        checksum.update(f"sequence {len(value)} ".encode())
        for each in value:
            _update(checksum, each)
    elif isinstance(value, Mapping):
        checksum.update(f"mapping {len(value)} ".encode())
        for key, each in sorted(value.items()):
            _update(checksum, key)
            _update(checksum, each)
    else:
        raise _unknown(value)


def _unknown(value: Any) -> UserError:
    return UserError(
        f"data: a value of type {type(value).__name__} has no known bytes, so that splits cannot be compared. Give"
        " strings, numbers, arrays, tensors, or tuples and mappings of these; or a rcc.data.fields.Field of your own"
        " that says its digests."
    )
