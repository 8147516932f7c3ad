"""Compare magnitudes as integers, read in chunks from tensors that may not exist yet.

A floating-point number without its sign bit, read as an integer (its *key*), orders as its magnitude does, and
NaN ranks above infinity. Integers of the same width take the sums and comparisons that floats would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Values a pass works on at a time: their keys stay in the processor's cache, and calls are few."""

KEYS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
"""The integers in which the bits of a floating-point number are read."""
LARGEST = {dtype: torch.iinfo(keys).max for dtype, keys in KEYS.items()}
"""Every bit but the sign; no key is larger."""
_NAN = {dtype: int(torch.tensor([torch.nan], dtype=dtype).view(KEYS[dtype])) for dtype in KEYS}


class Scores(Sequence[Tensor]):
    """Score tensors made anew at each access, so that one at a time is in memory.

    Args:
        sizes: the number of values of each.
        make: index -> tensor of any shape and float dtype; the same values whenever it is asked.
        dtype: what magnitudes are compared in, float32 or float64; no score may be wider.
        divisors: a positive number for each tensor, by which its values are divided (in `dtype`, chunk by
            chunk) before they are compared.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        make: Callable[[int], Tensor],
        dtype: torch.dtype = torch.float32,
        divisors: Sequence[float] | None = None,
    ) -> None:
        self.sizes = tuple(sizes)
        self.dtype = dtype
        self._make = make
        self._divisors = divisors
        self._room = torch.empty(0)

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Scores:
        """Scores that are tensors already: `tensors` itself where it is lazy, else a view of it."""
        if isinstance(tensors, Scores):
            return tensors
        wide = any(tensor.dtype == torch.float64 for tensor in tensors)
        return cls(
            [tensor.numel() for tensor in tensors],
            lambda index: tensors[index],
            torch.float64 if wide else torch.float32,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return self._make(index).detach()

    @property
    def numel(self) -> int:
        return sum(self.sizes)

    @property
    def chunk(self) -> int:
        """The most keys that come at once."""
        return min(CHUNK, max(self.sizes))

    def keys(self, index: int, score: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The keys of `score`, which is tensor `index`, by chunks: (flat index of the first, keys).

        All chunks share one piece of memory: what is yielded holds until the next is asked for.
        """
        if self._room.numel() != self.chunk or self._room.device != score.device:
            self._room = torch.empty(self.chunk, dtype=self.dtype, device=score.device)
        start = 0
        for chunk in score.reshape(-1).split(CHUNK):
            yield start, self._key(index, chunk, self._room[: chunk.numel()])
            start += chunk.numel()

    def key(self, index: int, values: Tensor) -> Tensor:
        """Integers that order as the magnitudes of `values`, which are of tensor `index`; those of zero are 0."""
        return self._key(index, values, torch.empty(values.shape, dtype=self.dtype, device=values.device))

    def _key(self, index: int, values: Tensor, out: Tensor) -> Tensor:
        keys = out.view(KEYS[self.dtype])
        if values.dtype == self.dtype and self._divisors is None:
            return torch.bitwise_and(values.view(keys.dtype), LARGEST[self.dtype], out=keys)
        out.copy_(values)
        if self._divisors is not None:
            out.div_(self._divisors[index])
        # Conversions give NaN one of several bit patterns, some at the end of a run and others within it.
        return keys.bitwise_and_(LARGEST[self.dtype]).clamp_(max=_NAN[self.dtype])
