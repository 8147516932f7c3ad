"""Second moments of the units' inputs over calibration batches: E[x²] of each input.

One forward pass without gradients. Units that are given the very same tensor (q, k and v of an attention, say) are
told its squares together: they are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rcc.calibration.call_order import before_each_call
from rcc.errors import WorkError
from rcc.layers.identity import Identity
from rcc.layers.input_rows import geometry, input_rows
from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating
from rcc.layers.padding import mask_of
from rcc.layers.units import Unit

CACHED = 1 << 17
"""Values squared at a time: in float64 they stay in the processor's cache."""


@dataclass(frozen=True)
class Moments:
    """Second moments of a unit's inputs over `samples` rows (tokens, or places of a kernel).

    diagonal: E[xⱼ²], float64, (in,); (groups, in) for a grouped convolution, whose groups have inputs of their own.
    inner: E[(V x)ₖ²], float64, (rank,), where the unit holds a low-rank pair U V.
    """

    samples: int
    diagonal: Tensor
    inner: Tensor | None = None

    @property
    def fired(self) -> bool:
        """Whether any input was ever other than zero."""
        return bool(self.diagonal.any())

    @property
    def note(self) -> str:
        """A warning before relying on these moments; empty where all is well."""
        return "" if self.fired else "no calibration batch reached it with an input other than zero"


def input_moments(model: Model, units: Sequence[Unit], batches: Sequence[Batch]) -> dict[str, Moments]:
    """The moments of linear and convolutional `units` by name, in one pass over the batches; no others come.

    Tokens that the batch's 'attention_mask' (batch, length) marks as padding do not count, wherever a linear
    layer's inputs have that leading shape.

    Raises:
        WorkError: the inputs of a unit hold a NaN or an infinity.
    """
    sums = {unit.name: _Sums(unit) for unit in units if unit.summing}
    with torch.no_grad(), evaluating(model.module):
        for batch in batches:
            seen = _Seen(mask_of(batch))

            def called(unit: Unit, module: nn.Module, inputs: Tensor, seen: _Seen = seen) -> None:
                sums[unit.name].add(module, inputs, seen)

            with before_each_call([one.unit for one in sums.values()], called):
                model.outputs(batch)
    return {name: one.moments() for name, one in sums.items()}


class _Seen:
    """The sums of the tensors given in the forward of one batch, as long as they live."""

    def __init__(self, mask: Tensor | None) -> None:
        self.mask = mask
        self._known: dict[tuple[Any, ...], tuple[Identity, int, Tensor]] = {}

    def squares(self, module: nn.Module, inputs: Tensor) -> tuple[int, Tensor]:
        """The number of rows that `module` makes of `inputs`, and the sums of their squares (groups, in)."""
        # An `id` may be given again once its object is gone: only a living reference says that it is the same tensor.
        key = (id(inputs), *geometry(module))
        known = self._known.get(key)
        if known is None or not known[0].is_of(inputs):
            count, total = 0, torch.zeros((), dtype=torch.float64)
            for rows in input_rows(module, inputs, self.mask):
                count += rows.shape[1]
                total = total + _squares(rows).cpu()
            known = self._known[key] = (Identity(inputs), count, total)
        return known[1:]


class _Sums:
    """The sums over all rows that one unit is given."""

    def __init__(self, unit: Unit) -> None:
        self.unit, self.samples = unit, 0
        self.diagonal = torch.zeros(getattr(unit.module, "groups", 1), unit.shape[1], dtype=torch.float64)
        rank = unit.read().rank
        self.inner = None if rank is None else torch.zeros(rank, dtype=torch.float64)

    def add(self, module: nn.Module, inputs: Tensor, seen: _Seen) -> None:
        count, squares = seen.squares(module, inputs)
        if not bool(torch.isfinite(squares).all()):
            raise WorkError(
                f"on the calibration batches the inputs of {self.unit.name} hold a NaN or an infinity: look at the"
                " model and at these batches."
            )
        self.samples += count
        self.diagonal += squares
        if self.inner is not None:
            right = self.unit.read().right
            assert right is not None
            for rows in input_rows(module, inputs, seen.mask):
                self.inner += _squares(rows.to(right.dtype) @ right.T)[0].cpu()

    def moments(self) -> Moments:
        count = max(1, self.samples)
        diagonal = self.diagonal / count
        inner = None if self.inner is None else self.inner / count
        return Moments(self.samples, diagonal[0] if len(diagonal) == 1 else diagonal, inner)


def _squares(rows: Tensor) -> Tensor:
    """Σ x² over the rows (groups, n, in) of each group, float64 (groups, in), a few rows at a time."""
    step = max(1, CACHED // (len(rows) * rows.shape[2]))
    total = torch.zeros(len(rows), rows.shape[2], dtype=torch.float64, device=rows.device)
    for part in rows.split(step, 1):
        total += part.double().square_().sum(1)
    return total
