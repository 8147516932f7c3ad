"""Size the batches of an evaluation by memory: as many items as a share of the machine's memory holds, at most 256.

What one item takes is measured: the peak of a pass over two items less that of one, and what is prepared ahead of it.
The share is of all memory and not of what happens to be free, and sizes are powers of 2: rounding depends on the size
of a batch, and a run that is resumed has to end in the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from rcc.data.loading import batches_held
from rcc.errors import UserError, is_whole
from rcc.layers.model import Batch
from rcc.layers.modes import evaluating
from rcc.memory import machine_bytes, peak_bytes
from rcc.models.adapter import Adapter

AUTO, LARGEST = "auto", 256
SHARE = 1 / 8
"""Of the memory of the machine, or of the accelerator, for activations and prepared inputs: the models that are
compared, calibration and other processes need the rest."""


class BatchSize:
    """How many items a forward pass takes: a number, or for 'auto' what fits, found by the first model that is looked
    at and kept for all others, so that models are compared on the same batches.

    Args:
        asked: 1 or more, or 'auto'.

    Raises:
        UserError: neither.
    """

    def __init__(self, asked: int | str) -> None:
        if asked != AUTO and not (is_whole(asked) and int(asked) >= 1):
            raise UserError(f"batch_size is {asked!r}; it must be a whole number from 1 up, or {AUTO}.")
        self.asked = asked
        self._found: dict[str, int] = {}

    def of(self, what: str, adapter: Adapter, sample: Callable[[int], Batch]) -> int:
        """The size of batches of `what`, of which `sample` prepares as many items as it is asked for."""
        if isinstance(self.asked, int):
            return self.asked
        if what not in self._found:
            self._found[what] = fitting(adapter, sample)
        return self._found[what]

    @property
    def note(self) -> str:
        """A sentence for people where batches are smaller than they would be with more memory; else empty."""
        fewer = {what: size for what, size in self._found.items() if size < LARGEST}
        if not fewer:
            return ""
        told = " and ".join(f"{size} {what}" for what, size in fewer.items())
        return f"Batches of {told}, by batch_size=auto: what 1/{round(1 / SHARE)} of the memory holds."


def fitting(adapter: Adapter, sample: Callable[[int], Batch]) -> int:
    """The largest power of 2, at most `LARGEST`, of items whose pass fits into `SHARE` of the memory; 1 at least."""
    item = bytes_an_item(adapter, sample)
    size = LARGEST
    while size > 1 and size * item > SHARE * machine_bytes(adapter.device):
        size //= 2
    return size


def bytes_an_item(adapter: Adapter, sample: Callable[[int], Batch]) -> int:
    """What one more item takes: activations at their peak, and its inputs in all batches that are held at a time.

    0 where there is nothing to prepare, or nothing that the model takes: its evaluation says so.
    """
    try:
        one, two = sample(1), sample(2)
        with evaluating(adapter.module), torch.inference_mode():
            peaks = [peak_bytes(lambda batch=batch: adapter.outputs(batch), adapter.module) for batch in (one, two)]  # type: ignore[misc]
    except UserError:
        return 0
    inputs = sum(tensor.nbytes for tensor in one.values() if isinstance(tensor, torch.Tensor))
    return max(0, peaks[1] - peaks[0]) + (batches_held() - 1) * inputs
