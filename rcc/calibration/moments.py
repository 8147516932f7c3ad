"""Second moments of the units' inputs over calibration batches: E[x²] of each input, and E[x xᵀ] where asked for.

One forward pass without gradients. A second, over the first batch alone, comes before it: it finds the units
that are given the very same tensor (q, k and v of an attention, say), for which everything is held once and
computed once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rcc.calibration.input_rows import geometry, input_rows
from rcc.calibration.modes import evaluating
from rcc.calibration.row_fit import FITTED, Answering, Batch
from rcc.errors import WorkError
from rcc.layers.units import Unit

BUDGET = 512 * 2**20
"""Bytes of full moments that are held at a time, unless told otherwise."""
DAMPING = 0.01
"""What is added to the diagonal of a full moment, as a share of its mean."""

Called = Callable[[Unit, nn.Module, Tensor], None]


@dataclass(frozen=True)
class Moments:
    """What a unit's inputs are on average over `samples` rows (tokens, or places of a kernel).

    diagonal: E[xⱼ²], float64, (in,); (groups, in) for a grouped convolution, whose groups have inputs of their own.
    inner: E[(V x)ₖ²], float64, (rank,), where the unit holds a low-rank pair U V.
    full: H = E[x xᵀ], (in, in), where it was asked for and the unit has but one group. Units that share their
        inputs share this tensor.
    """

    samples: int
    diagonal: Tensor
    inner: Tensor | None = None
    full: Tensor | None = None

    @property
    def fired(self) -> bool:
        """Whether any input was ever other than zero."""
        return bool(self.diagonal.any())

    def damped(self, share: float = DAMPING) -> Tensor:
        """H + share · mean(diag H) · I in float64: positive definite wherever the unit fired at all."""
        assert self.full is not None
        damped = self.full.double()
        damped = damped.clone() if damped is self.full else damped
        damped.diagonal().add_(share * damped.diagonal().mean())
        return damped

    @property
    def note(self) -> str:
        """What a user should know before relying on these moments; empty where all is well."""
        if not self.fired:
            return "no calibration batch reached it with an input other than zero"
        if self.full is not None and self.samples < len(self.full):
            return f"{self.samples} rows of calibration inputs for {len(self.full)} dimensions: damping fills the rest"
        return ""


class InputMoments:
    """The moments of linear and convolutional `units`, over `batches`; units of other kinds are passed over.

    Tokens that the batch's 'attention_mask' (batch, length) marks as padding do not count, wherever a linear
    layer's inputs have that leading shape.

    Args:
        full: whether E[x xᵀ] is wanted. It takes in² values for each distinct input.
        dtype: of the products behind E[x xᵀ] and of their sum, float32 or float64. E[x²] is float64 always.
        budget: bytes of E[x xᵀ] to hold at a time, which `passes` divides the units by.
    """

    def __init__(
        self,
        model: Answering,
        units: Sequence[Unit],
        batches: Sequence[Batch],
        *,
        full: bool = False,
        dtype: torch.dtype = torch.float32,
        budget: int = BUDGET,
    ) -> None:
        self.model, self.batches = model, batches
        self.full, self.dtype, self.budget = full, dtype, budget
        self.units = [unit for unit in units if unit.kind in FITTED]
        self._sharing = self._find_sharing()

    def passes(self) -> list[list[Unit]]:
        """The units, divided so that the full moments of each part stay under the budget, those that share
        their inputs together. An input that is over the budget alone makes a part of its own."""
        parts: list[list[Unit]] = []
        room = 0
        for group in self._sharing:
            taken = group[0].shape[1] ** 2 * self.dtype.itemsize if self.full else 0
            if not parts or taken > room:
                parts.append([])
                room = self.budget
            parts[-1].extend(group)
            room -= taken
        return parts

    def gather(self, units: Sequence[Unit] | None = None) -> dict[str, Moments]:
        """The moments of `units` (all of them where none are given) by name, in one pass over the batches.

        Raises:
            WorkError: the inputs of a unit hold a NaN or an infinity.
        """
        wanted = {unit.name for unit in (self.units if units is None else units)}
        groups = [[unit for unit in group if unit.name in wanted] for group in self._sharing]
        sums = [_Sums(group, self.full, self.dtype) for group in groups if group]
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
            return self.gather(units)
        return {name: moments for one in sums for name, moments in one.moments().items()}

    def _find_sharing(self) -> list[list[Unit]]:
        """The units in groups of equal inputs on the first batch, in the order given."""
        given: dict[str, list[int]] = {unit.name: [] for unit in self.units}
        seen: dict[int, tuple[_Identity, int]] = {}
        events = iter(range(1 << 62))

        def note(unit: Unit, module: nn.Module, inputs: Tensor) -> None:
            known = seen.get(id(inputs))
            if known is None or not known[0].is_of(inputs):
                known = seen[id(inputs)] = (_Identity(inputs), next(events))
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


class _Identity:
    """Tells whether a tensor is the very one given, unchanged since; does not keep it alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = weakref.ref(tensor), _version(tensor)

    def is_of(self, tensor: Tensor) -> bool:
        return self._tensor() is tensor and self._version == _version(tensor)


class _Sums:
    """The sums over the rows of one input, for the units that are given it; the first of them adds."""

    def __init__(self, units: Sequence[Unit], full: bool, dtype: torch.dtype) -> None:
        self.units, self.dtype = units, dtype
        self.full_wanted = full and getattr(units[0].module, "groups", 1) == 1
        self.samples = 0
        self.diagonal = torch.zeros(getattr(units[0].module, "groups", 1), units[0].shape[1], dtype=torch.float64)
        self.full: Tensor | None = None
        self.inner = {
            unit.name: torch.zeros(unit.read().rank or 0, dtype=torch.float64)
            for unit in units
            if unit.read().rank is not None
        }
        self._given: dict[str, int] = {}
        self._inputs: list[_Identity] = []

    def add(self, unit: Unit, module: nn.Module, inputs: Tensor, mask: Tensor | None) -> None:
        place = self._given.get(unit.name, 0)
        self._given[unit.name] = place + 1
        first = unit is self.units[0]
        if first:
            self._inputs.append(_Identity(inputs))
        elif place >= len(self._inputs) or not self._inputs[place].is_of(inputs):
            raise _SharingError
        if first or unit.name in self.inner:
            for rows in input_rows(module, inputs, mask):
                self._add_rows(unit, rows, first)

    def _add_rows(self, unit: Unit, rows: Tensor, first: bool) -> None:
        if first:
            self.samples += rows.shape[1]
            self.diagonal += rows.double().square().sum(1).cpu()
            if self.full_wanted:
                if self.full is None:
                    self.full = torch.zeros(2 * rows.shape[2:], dtype=self.dtype, device=rows.device)
                wide = rows[0].to(self.dtype)
                self.full.addmm_(wide.T, wide)
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
        if self.full_wanted and self.full is None:
            self.full = torch.zeros(2 * diagonal.shape, dtype=self.dtype)
        if self.full is not None:
            self.full /= count
        return {
            unit.name: Moments(
                self.samples,
                diagonal,
                self.inner[unit.name] / count if unit.name in self.inner else None,
                self.full,
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


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
