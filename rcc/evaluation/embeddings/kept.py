"""What is kept in memory for the next time, up to a number of bytes; what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from rcc.layers.model import Batch


class Kept:
    """Lists of batches by key, `capacity` bytes in all at most."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nbytes = 0
        self._held: OrderedDict[str, Sequence[Batch]] = OrderedDict()

    def get(self, key: str) -> Sequence[Batch] | None:
        """What was put under `key`; None where it was not, or went."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key]

    def put(self, key: str, batches: Sequence[Batch]) -> None:
        """Keep `batches`, unless they alone take more than there is room for."""
        self.nbytes -= nbytes(self._held.pop(key, ()))
        if self.make_room(size := nbytes(batches)):
            self._held[key] = batches
            self.nbytes += size

    def make_room(self, size: int) -> bool:
        """Let go of what was used longest ago until `size` bytes fit; False, and nothing goes, where they cannot."""
        if size > self.capacity:
            return False
        while self.nbytes + size > self.capacity:
            self.nbytes -= nbytes(self._held.popitem(last=False)[1])
        return True


def nbytes(batches: Sequence[Batch]) -> int:
    """Bytes of all tensors of the batches."""
    return sum(tensor.numel() * tensor.element_size() for batch in batches for tensor in batch.values())
