"""Read and prune the values of a unit: those that are stored, or the deltas to a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from rcc.calibration.checkpoints import Checkpoint
from rcc.errors import Problems
from rcc.layers.units import Unit
from rcc.ops.prune import add_delta, delta


class Values(Protocol):
    """The values of a unit by matrix name, in the shapes of its stored matrices."""

    def read(self, unit: Unit, name: str) -> Tensor:
        """One matrix of values, no copy where they are stored as such. Who changes it in place must `write` it."""
        ...

    def write(self, unit: Unit, matrices: Mapping[str, Tensor]) -> None:
        """Put new values in the place of those named."""
        ...


class StoredValues:
    """What is stored: S, or the factors U and V, or all three."""

    def read(self, unit: Unit, name: str) -> Tensor:
        matrix: Tensor = getattr(unit.read(), name)
        return matrix.detach()

    def write(self, unit: Unit, matrices: Mapping[str, Tensor]) -> None:
        unit.write(replace(unit.read(), **matrices))


class Deltas:
    """W − W_base, in float32 or wider. A removed delta leaves the base weight, bit for bit.

    Raises:
        UserError: tensors that are missing from `base` or misshapen, or units that are factorised or scaled
            by now; all of them by name.
    """

    def __init__(self, base: Checkpoint, units: Sequence[Unit]) -> None:
        base.require(units)
        problems = Problems("deltas to a base checkpoint")
        for unit in units:
            form = unit.read()
            problems.check(
                form.left is None and form.scale is None,
                f"{unit.name} is no longer one matrix (it was factorised or scaled); put this stage first.",
            )
        problems.done()
        self.base = base

    def read(self, unit: Unit, name: str) -> Tensor:
        return delta(self._weight(unit), self._base(unit))

    def write(self, unit: Unit, matrices: Mapping[str, Tensor]) -> None:
        weight = add_delta(self._base(unit), matrices["sparse"], self._weight(unit).dtype)
        unit.write(replace(unit.read(), sparse=weight))

    def _weight(self, unit: Unit) -> Tensor:
        sparse = unit.read().sparse
        assert sparse is not None
        return sparse.detach()

    def _base(self, unit: Unit) -> Tensor:
        weight = self._weight(unit)
        return self.base.weight(unit).to(weight.device, weight.dtype).reshape(weight.shape)
