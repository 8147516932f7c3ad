"""Second moments of the units' inputs over calibration batches: E[x²] of each input.

One forward pass without gradients. A second, over the first batch alone, comes before it: it finds the units
that are given the very same tensor (q, k and v of an attention, say), for which everything is held once and
computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rcc.calibration.identity import Identity
from rcc.calibration.input_rows import geometry, input_rows
from rcc.calibration.modes import evaluating
from rcc.calibration.row_fit import FITTED, Answering, Batch
from rcc.errors import WorkError
from rcc.layers.units import Unit

Called = Callable[[Unit, nn.Module, Tensor], None]


@dataclass(frozen=True)
class Moments:
    """What a unit's inputs are on average over `samples` rows (tokens, or places of a kernel).

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
        """What a user should know before relying on these moments; empty where all is well."""
        return "" if self.fired else "no calibration batch reached it with an input other than zero"


class InputMoments:
    """The moments of linear and convolutional `units`, over `batches`; units of other kinds are passed over.

    Tokens that the batch's 'attention_mask' (batch, length) marks as padding do not count, wherever a linear
    layer's inputs have that leading shape.
    """

    def __init__(self, model: Answering, units: Sequence[Unit], batches: Sequence[Batch]) -> None:
        self.model, self.batches = model, batches
        self.units = [unit for unit in units if unit.kind in FITTED]
        self._sharing = self._find_sharing()

    def gather(self) -> dict[str, Moments]:
        """The moments of the units by name, in one pass over the batches.

        Raises:
            WorkError: the inputs of a unit hold a NaN or an infinity.
        """
        sums = [_Sums(group) for group in self._sharing]
        by_name = {unit.name: one for one in sums for unit in one.units}
        try:
            for batch in self.batches:
                mask = batch.get("attention_mask")
                self._forward(
                    [unit for one in sums for unit in one.units],
                    batch,
                    lambda unit, module, inputs, mask=mask: by_name[unit.name].add(unit, module, inputs, mask),  # type: ignore[misc]
                )
                for one in sums:
                    one.end_batch()
        except _SharingError:
            # The first batch was not like the others. Begin again, every unit by itself.
            self._sharing = [[unit] for unit in self.units]
            return self.gather()
        return {name: moments for one in sums for name, moments in one.moments().items()}

    def _find_sharing(self) -> list[list[Unit]]:
        """The units in groups of equal inputs on the first batch, in the order given."""
        given: dict[str, list[int]] = {unit.name: [] for unit in self.units}
        seen: dict[int, tuple[Identity, int]] = {}
        events = iter(range(1 << 62))

        def note(unit: Unit, module: nn.Module, inputs: Tensor) -> None:
            known = seen.get(id(inputs))
            if known is None or not known[0].is_of(inputs):
                known = seen[id(inputs)] = (Identity(inputs), next(events))
            given[unit.name].append(known[1])

        for batch in self.batches[:1]:
            self._forward(self.units, batch, note)
        groups: dict[Any, list[Unit]] = {}
        for unit in self.units:
            key = (tuple(given[unit.name]), geometry(unit.module)) if given[unit.name] else unit.name
            groups.setdefault(key, []).append(unit)
        return list(groups.values())

    def _forward(self, units: Sequence[Unit], batch: Batch, called: Called) -> None:
        with torch.no_grad(), evaluating(self.model.module), _hooked(units, called):
            self.model.outputs(batch)


class _SharingError(Exception):
    """Units that shared their inputs on the first batch do not on another."""


class _Sums:
    """The sums over the rows of one input, for the units that are given it; the first of them adds."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = units
        self.samples = 0
        self.diagonal = torch.zeros(getattr(units[0].module, "groups", 1), units[0].shape[1], dtype=torch.float64)
        self.inner = {
            unit.name: torch.zeros(unit.read().rank or 0, dtype=torch.float64)
            for unit in units
            if unit.read().rank is not None
        }
        self._given: dict[str, int] = {}
        self._inputs: list[Identity] = []

    def add(self, unit: Unit, module: nn.Module, inputs: Tensor, mask: Tensor | None) -> None:
        place = self._given.get(unit.name, 0)
        self._given[unit.name] = place + 1
        first = unit is self.units[0]
        if first:
            self._inputs.append(Identity(inputs))
        elif place >= len(self._inputs) or not self._inputs[place].is_of(inputs):
            raise _SharingError
        if first or unit.name in self.inner:
            for rows in input_rows(module, inputs, mask):
                self._add_rows(unit, rows, first)

    def _add_rows(self, unit: Unit, rows: Tensor, first: bool) -> None:
        if first:
            self.samples += rows.shape[1]
            self.diagonal += rows.double().square().sum(1).cpu()
        if unit.name in self.inner:
            right = unit.read().right
            assert right is not None
            self.inner[unit.name] += (rows[0].to(right.dtype) @ right.T).double().square().sum(0).cpu()

    def end_batch(self) -> None:
        """Every unit must have been given as many inputs as the first."""
        if any(self._given.get(unit.name, 0) != len(self._inputs) for unit in self.units):
            raise _SharingError
        self._given, self._inputs = {}, []

    def moments(self) -> dict[str, Moments]:
        if not bool(torch.isfinite(self.diagonal).all()):
            raise WorkError(
                f"on the calibration batches the inputs of {', '.join(unit.name for unit in self.units)} hold a NaN or"
                " an infinity: look at the model and at these batches."
            )
        count = max(1, self.samples)
        diagonal = self.diagonal / count
        diagonal = diagonal[0] if len(diagonal) == 1 else diagonal
        return {
            unit.name: Moments(
                self.samples,
                diagonal,
                self.inner[unit.name] / count if unit.name in self.inner else None,
            )
            for unit in self.units
        }


@contextmanager
def _hooked(units: Sequence[Unit], called: Called) -> Iterator[None]:
    """Inside, `called(unit, module, inputs)` comes before each forward of a unit's modules, tied ones included."""

    def before(unit: Unit, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        called(unit, module, args[0] if args else next(iter(kwargs.values())))

    handles = []
    for unit in units:
        modules = {id(module): module for module in map(unit.root.get_submodule, (unit.name, *unit.tied))}
        for module in modules.values():
            handles.append(module.register_forward_pre_hook(partial(before, unit), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
