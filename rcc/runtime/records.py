"""Record the kernels chosen and the times measured, as plain data for the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Pick:
    """The kernel of one unit.

    `form` says which matrices are multiplied ('S', 'UV', 'S + UV'), with the `rank` of U V and the `zeros` among their
    values as a share; `shape` is (out, in), `rows` is how many inputs one call multiplies.
    `stored_seconds` and `seconds` are those of one call, of the unit as it was stored and of the kernel: the least of
    several, since what else the machine does can only add to them. `cosine` is that of their outputs about the mean.
    """

    unit: str
    shape: tuple[int, int]
    form: str
    rank: int | None
    zeros: float
    rows: int
    kernel: str
    stored_seconds: float
    seconds: float
    cosine: float


@dataclass(frozen=True)
class RuntimePlan:
    """How the model runs now.

    `dtype` is what the activations and everything that is no linear unit compute in. Seconds are medians of one
    pass over the batch, before and after in turns; `predicted_speedup` follows from the kernels' own times alone.
    `cosine` is the mean over the items of all outputs, `centred_cosine` the same about the mean output, which tells
    outputs apart even where all items look alike. `notes` are for the user.
    """

    choice: str
    dtype: str
    threads: int
    picks: tuple[Pick, ...]
    stored_seconds: float
    seconds: float
    predicted_speedup: float
    cosine: float
    centred_cosine: float
    notes: tuple[str, ...] = ()

    @property
    def speedup(self) -> float:
        """How many times faster than as stored, measured."""
        return self.stored_seconds / self.seconds

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
