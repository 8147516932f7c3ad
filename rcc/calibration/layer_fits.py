"""Gather each layer's least-squares statistics, E[x xᵀ] and E[y xᵀ], in the order in which the model calls its layers.

x is what the layer is given in the compressed model, y what it is to make of it: the output of the dense model, or of
its own weight as it is (the objective of SparseGPT, Frantar & Alistarh 2023, which makes up for nothing that the layers
before have lost and asks for no dense model).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.fit_sums import Covariance, Rows
from rcc.calibration.side_by_side import LayerCall, LayerVisit, layer_visits
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.identity import Identity
from rcc.layers.input_rows import geometry, input_rows
from rcc.layers.model import Batch, Model
from rcc.layers.padding import without_padding
from rcc.layers.units import Unit
from rcc.memory import give_back_free_memory
from rcc.ops.groups import by_group, diagonal, for_rows, times
from rcc.ops.quadratic import DAMPING, Quadratic
from rcc.ops.refit import best_bias, mean_output

CONSTANT = 1e-6
"""Inputs that vary by no more than this share of their mean square tell nothing: it is the rounding of the sums."""


@dataclass(frozen=True)
class Inputs:
    """A layer's inputs over `samples` rows of `items`: their mean E[x] (in,) and covariance E[(x − E[x])(x − E[x])ᵀ]
    (in, in).

    A grouped convolution has those of each group: (groups, in) and (groups, in, in).
    """

    samples: int
    items: int
    mean: Tensor
    covariance: Tensor

    @property
    def independent(self) -> float:
        """How many independent rows these are taken to be worth: those of one item resemble one another. The geometric
        mean of rows and items, a rule of thumb."""
        return math.sqrt(self.samples * self.items)

    @property
    def moment(self) -> Tensor:
        """E[x xᵀ] (…, in, in)."""
        return self.covariance + self.mean[..., :, None] * self.mean[..., None, :]


@dataclass
class LayerFit:
    """A unit, the inputs x that it sees in the compressed model, and what it is to make of them, y.

    All calls of the layer count, by all batches that reach it. The statistics are held for one layer at a time:
    `layer_fits` releases those of a layer when it goes on to the next.

    mean: E[y] (out,). covariance: E[(y − E[y])(x − E[x])ᵀ] (out, in). variance: of each yᵢ, (out,), float64.
    """

    unit: Unit
    inputs: Inputs
    mean: Tensor
    covariance: Tensor
    variance: Tensor
    activations: list[tuple[LayerCall, Tensor]] = field(repr=False)

    def release(self) -> None:
        """Let go of all but the unit, whoever still holds this object."""
        for name in (each.name for each in fields(self)):
            if name != "unit":
                delattr(self, name)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there: an attribute of a released fit.
        if name in {each.name for each in fields(self)}:
            raise ValueError(
                f"the statistics at {self.unit.name} are gone: they are held for one layer at a time, while the"
                " iterator of layer_fits waits"
            )
        raise AttributeError(name)

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every input (n, in) that counts with the output (n, out) that is wanted of it, part by part; of a grouped
        convolution (groups, n, in) and (groups, n, out / groups).

        Raises:
            ValueError: `layer_fits` was not asked to hold them, or has gone on to the next layer.
        """
        if not self.activations:
            raise ValueError(f"the rows at {self.unit.name} are not held: ask for them by layer_fits(…, rows=True)")
        return (part for call, output in self.activations for part in _rows(self.unit, call, output))

    @property
    def cross(self) -> Tensor:
        """E[y xᵀ] (out, in)."""
        return self.covariance + self.mean[:, None] * for_rows(self.inputs.mean, len(self.mean))

    @property
    def energy(self) -> Tensor:
        """E[yᵢ²] (out,), float64."""
        return self.variance + self.mean.double().square()

    @property
    def has_bias(self) -> bool:
        return self.unit.read().bias is not None

    @property
    def fired(self) -> bool:
        """Whether any input was ever other than zero."""
        return bool(self.inputs.mean.any() or diagonal(self.inputs.covariance).any())

    @property
    def varies(self) -> bool:
        """Whether inputs tell anything of the weight: of constant ones a bias makes up for whatever becomes of it."""
        return bool(self._varying.any())

    @property
    def _varying(self) -> Tensor:
        """`varies`, () or of each group (groups,)."""
        varying = diagonal(self.inputs.covariance).double().mean(-1)
        square = varying + self.inputs.mean.double().square().mean(-1)
        return varying > CONSTANT * square if self.has_bias else square > 0

    @property
    def note(self) -> str:
        """A warning before relying on the fit; empty where all is well."""
        if not self.fired:
            return "no calibration batch reached it with an input other than zero"
        if not self.varies:
            return "its inputs are the same in every row of the calibration data"
        dimensions = self.inputs.mean.shape[-1]
        if self.inputs.samples < dimensions:
            return (
                f"{self.inputs.samples} rows of calibration inputs for {dimensions} dimensions:"
                " damping decides the rest"
            )
        return ""

    def objective(self) -> Quadratic:
        """E‖y − V x − b‖² with the best bias b for every V, where the unit has one; else E‖y − V x‖².

        Of inputs that do not vary it is the same for every V, without the rounding of their sums.
        """
        if self.has_bias:
            moment, cross, energy = self.inputs.covariance, self.covariance, self.variance
        else:
            moment, cross, energy = self.inputs.moment, self.cross, self.energy
        constant = ~self._varying
        if bool(constant.any()):
            moment = moment.masked_fill(constant[..., None, None], 0.0)
            cross = cross.masked_fill(for_rows(constant.view(-1, 1), len(cross)), 0.0)
        return Quadratic(moment, cross, energy)

    def damped(self, near: Tensor, share: float = DAMPING) -> Quadratic:
        """`objective`, with what the inputs do not tell, or not surely, decided by `near` (out, in)."""
        return self.objective().shrunk(near, self.inputs.independent).damped(near, share)

    def settled(self, form: Form) -> Form:
        """`form` with the bias that is best on average, where the unit has one."""
        if not self.has_bias or form.bias is None:
            return form
        weight = form.dense().to(self.mean.dtype)
        return replace(form, bias=best_bias(self.mean, self.inputs.mean, weight).to(form.bias))


def layer_fits(
    model: Model,
    dense: Model | None,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    dtype: torch.dtype = torch.float32,
    rows: bool = False,
) -> Iterator[LayerFit]:
    """The statistics of every unit of `units` that is a sum over inputs and that a batch calls, in the order of the
    calls.

    A unit may be written while the iterator waits; later fits then see its new outputs. Inputs that several
    units share (q, k and v of an attention) are summed once. Tokens that a batch's attention mask marks as
    padding do not count. One fit is held at a time: it is released when the iterator goes on.

    Args:
        dense: the model whose outputs are wanted; None wants those of each unit's weight and bias as they are.
        rows: hold every input and wanted output of one layer, for `LayerFit.rows`; of a dense model's only.

    Raises:
        WorkError: a unit's inputs or outputs hold a NaN or an infinity, or batches call layers in opposite orders.
    """
    fitted = [unit for unit in units if unit.summing]
    last: tuple[_GivenTensors, _Shared] | None = None
    passing = {unit.name for unit in fitted if unit.kind == "linear" and not _through_inputs(unit)}
    for visit in layer_visits(model, dense, fitted, batches, passing):
        given = _GivenTensors(visit)
        known = last[1] if last is not None and last[0].are_those_of(visit) else None
        if dense is None:
            fit, shared = _fit_to_own(visit, known, dtype)
        else:
            fit, shared = _fit_to_dense(visit, known, dtype, rows)
        last = (given, shared)
        del shared
        # The sums of one layer are freed in pieces that glibc keeps: given back before the solver asks for as much.
        give_back_free_memory()
        yield fit
        fit.release()
        give_back_free_memory()


class _GivenTensors:
    """The key of a layer's input rows: the tensors, unchanged since, and the geometry that cuts them into rows."""

    def __init__(self, visit: LayerVisit) -> None:
        self.tensors = [Identity(tensor) for tensor in _tensors(visit)]
        self.geometry = geometry(visit.unit.module)

    def are_those_of(self, visit: LayerVisit) -> bool:
        tensors = _tensors(visit)
        same = len(tensors) == len(self.tensors) > 0 and all(map(Identity.is_of, self.tensors, tensors))
        return same and self.geometry == geometry(visit.unit.module)


def _tensors(visit: LayerVisit) -> list[Tensor]:
    """None of a layer that is called again: its inputs are made anew."""
    pairs = ((call.given, call.dense_given) for call in visit.calls)
    return [tensor for pair in pairs for tensor in pair if tensor is not None]


def _through_inputs(unit: Unit) -> bool:
    """Whether E[y xᵀ] is had from E[x' xᵀ], of the inputs x' of the dense model: a linear layer wants y = W x' + b, and
    all layers that share x share that sum. Where inputs are more than outputs, E[y xᵀ] by itself is less to sum; where
    a hook of the model's changes the input on the way to the weight, x' is not what the forward was paused with."""
    return unit.kind == "linear" and unit.shape[1] <= unit.shape[0] and not unit.module._forward_pre_hooks


@dataclass(frozen=True)
class _Shared:
    """The sums that units of the same inputs x share: `crossing` is E[(x' − E[x'])(x − E[x])ᵀ], (in, in), with the
    inputs x' of the dense model; None where it was not asked for."""

    inputs: Inputs
    crossing: Tensor | None = None


def _fit_to_dense(visit: LayerVisit, known: _Shared | None, dtype: torch.dtype, hold: bool) -> tuple[LayerFit, _Shared]:
    """Accumulate the statistics of the layer all forwards wait before; of inputs that are unchanged since the layer
    before (`known`), only what its outputs add."""
    unit, columns, rows_out = visit.unit, visit.unit.shape[1], visit.unit.shape[0]
    groups, device = unit.groups, _device(unit)
    sizes = (columns, columns, rows_out // (groups or 1))
    inputs, dense_inputs, outputs = (Rows(size, dtype, device, groups) for size in sizes)
    through_inputs = _through_inputs(unit) and not visit.repeated and (known is None or known.crossing is not None)
    own = Covariance(inputs, inputs) if known is None else None
    crossing = Covariance(dense_inputs, inputs) if through_inputs and known is None else None
    cross = None if through_inputs else Covariance(outputs, inputs)
    sums = [one for one in (own, crossing, cross) if one is not None]
    squares = torch.zeros(rows_out, dtype=torch.float64, device=device)
    activations, weight, items = [], None, 0
    for call, output in visit.outputs():
        items += _items(unit, call)
        if through_inputs and weight is None:
            weight = visit.dense_unit.read().dense()  # here it can be read: later the forward has run past it
        if hold:
            activations.append((call, output))
        others: Iterable[Tensor | None] = repeat(None)
        if crossing is not None:
            assert call.dense_given is not None
            others = _input_rows(unit, call.dense_given, call.mask)
        for (given, wanted), other in zip(_rows(unit, call, output), others, strict=False):
            outputs.take(wanted)
            squares += outputs.new.square().sum(-2, dtype=torch.float64).view(-1)
            if sums:
                inputs.take(given)
            if other is not None:
                dense_inputs.take(other)
            for one in sums:
                one.add()
        # Before the next batch's activations are made: two batches' of a wide layer would be held at once.
        del call, output, given, wanted, other
    samples, mean = (inputs.count, inputs.mean) if known is None else (known.inputs.samples, known.inputs.mean)
    _require_finite(unit, outputs.mean, mean, "the inputs or the wanted outputs")
    if known is None:
        assert own is not None
        known = _Shared(Inputs(samples, items, mean, own.done()), None if crossing is None else crossing.done())
    if cross is not None:
        wanted_covariance = cross.done().view(rows_out, columns)
    else:
        assert weight is not None
        assert known.crossing is not None
        wanted_covariance = weight.to(dtype) @ known.crossing
    variance = (squares / max(1, outputs.count) - outputs.offset.square().view(-1)).clamp_min_(0)
    return LayerFit(unit, known.inputs, outputs.mean.view(-1), wanted_covariance, variance, activations), known


def _fit_to_own(visit: LayerVisit, known: _Shared | None, dtype: torch.dtype) -> tuple[LayerFit, _Shared]:
    """Of y = W x + b the statistics follow from those of x: E[y xᵀ] is W E[x xᵀ]."""
    unit = visit.unit
    known = known or _Shared(_inputs(visit, dtype))
    inputs, form = known.inputs, unit.read()
    weight = form.dense().detach().to(inputs.mean)
    mean = mean_output(weight, inputs.mean)
    if form.bias is not None:
        mean = mean + form.bias.detach().to(mean)
    covariance = times(weight, inputs.covariance)
    variance = (covariance * weight).sum(1, dtype=torch.float64).clamp_min_(0)
    return LayerFit(unit, inputs, mean, covariance, variance, []), known


def _inputs(visit: LayerVisit, dtype: torch.dtype) -> Inputs:
    unit = visit.unit
    rows = Rows(unit.shape[1], dtype, _device(unit), unit.groups)
    covariance, items = Covariance(rows, rows), 0
    for call in visit.inputs():
        items += _items(unit, call)
        for part in _input_rows(unit, call.given, call.mask):
            rows.take(part)
            covariance.add()
    _require_finite(unit, rows.mean, rows.mean, "the inputs")
    return Inputs(rows.count, items, rows.mean, covariance.done())


def _items(unit: Unit, call: LayerCall) -> int:
    """How many items a call is given: by its first dimension, or one where a convolution is given no batch."""
    kernel = getattr(unit.module, "kernel_size", ())
    return 1 if call.given.dim() == len(kernel) + 1 and kernel else call.given.shape[0]


def _device(unit: Unit) -> torch.device:
    _, matrix = next(iter(unit.read().matrices()))
    return matrix.device


def _require_finite(unit: Unit, outputs: Tensor, inputs: Tensor, what: str) -> None:
    if not bool(torch.isfinite(outputs).all() and torch.isfinite(inputs).all()):
        raise WorkError(
            f"on the calibration batches {what} of {unit.name} hold a NaN or an infinity: look at the model and at"
            " these batches."
        )


def _rows(unit: Unit, call: LayerCall, output: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs that count and the outputs that are wanted of them, in parts; see `LayerFit.rows`."""
    wanted = _output_rows(unit, call, output)
    start = 0
    module: Any = unit.module
    size = output.shape[-len(module.kernel_size) :] if getattr(module, "transposed", False) else None
    for rows in _input_rows(unit, call.given, call.mask, size):
        count = rows.shape[-2]
        yield rows, wanted[..., start : start + count, :]
        start += count


def _input_rows(unit: Unit, given: Tensor, mask: Tensor | None, size: Sequence[int] | None = None) -> Iterator[Tensor]:
    rows = input_rows(unit.module, given, mask, size)
    return rows if unit.groups is not None else (part[0] for part in rows)


def _output_rows(unit: Unit, call: LayerCall, wanted: Tensor) -> Tensor:
    """The wanted outputs (n, out), or (groups, n, out / groups), in the order of `input_rows`."""
    kernel = getattr(unit.module, "kernel_size", None)
    if kernel is not None:
        if unit.groups is not None:  # laid out as their inputs are
            return by_group(wanted.movedim(-len(kernel) - 1, 0).flatten(1), unit.groups).mT
        return wanted.movedim(-len(kernel) - 1, -1).flatten(0, -2)
    return without_padding(wanted, call.mask).flatten(0, -2)
