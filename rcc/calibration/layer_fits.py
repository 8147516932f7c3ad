"""Where a layer is fitted: the second moments of its inputs and of its inputs with the outputs it should give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

import torch
from torch import Tensor

from rcc.calibration.fit_sums import Covariance, Rows
from rcc.calibration.row_fit import FITTED
from rcc.calibration.side_by_side import Meeting, Passage, meetings
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.identity import Identity
from rcc.layers.input_rows import geometry, input_rows
from rcc.layers.model import Batch, Model
from rcc.layers.units import Unit
from rcc.memory import give_back_free_memory
from rcc.ops.quadratic import DAMPING, Quadratic
from rcc.ops.refit import best_bias

CONSTANT = 1e-6
"""Inputs that vary by no more than this share of their mean square tell nothing: it is the rounding of the sums."""


@dataclass(frozen=True)
class Inputs:
    """What a layer is given, over `samples` rows: their mean E[x] (in,) and covariance E[(x − E[x])(x − E[x])ᵀ]."""

    samples: int
    mean: Tensor
    covariance: Tensor

    @property
    def moment(self) -> Tensor:
        """E[x xᵀ] (in, in)."""
        return self.covariance + torch.outer(self.mean, self.mean)


@dataclass(frozen=True)
class Site:
    """A unit, the inputs it sees in the compressed model, and what it should make of them, y, as the dense model does.

    mean: E[y] (out,). covariance: E[(y − E[y])(x − E[x])ᵀ] (out, in). variance: of each yᵢ, (out,), float64.
    """

    unit: Unit
    inputs: Inputs
    mean: Tensor
    covariance: Tensor
    variance: Tensor
    activations: list[tuple[Passage, Tensor]] = field(repr=False)

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every input (n, in) that counts with the output (n, out) that is wanted of it, part by part.

        Raises:
            ValueError: `sites` was not asked to hold them, or has gone on: they are held for one layer at a time.
        """
        if not self.activations:
            raise ValueError(
                f"the activations at {self.unit.name} are gone: ask while the iterator of sites(…, rows=True) waits"
            )
        return (part for passage, output in self.activations for part in _rows(self.unit, passage, output))

    @property
    def cross(self) -> Tensor:
        """E[y xᵀ] (out, in)."""
        return self.covariance + torch.outer(self.mean, self.inputs.mean)

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
        return bool(self.inputs.mean.any() or self.inputs.covariance.diagonal().any())

    @property
    def varies(self) -> bool:
        """Whether inputs tell anything of the weight: of constant ones a bias makes up for whatever becomes of it."""
        varying = float(self.inputs.covariance.diagonal().mean())
        square = varying + float(self.inputs.mean.square().mean())
        return varying > CONSTANT * square if self.has_bias else square > 0

    @property
    def note(self) -> str:
        """What a user should know before relying on the fit; empty where all is well."""
        if not self.fired:
            return "no calibration batch reached it with an input other than zero"
        if not self.varies:
            return "its inputs are the same in every row of the calibration data"
        if self.inputs.samples < len(self.inputs.mean):
            return (
                f"{self.inputs.samples} rows of calibration inputs for {len(self.inputs.mean)} dimensions:"
                " damping decides the rest"
            )
        return ""

    def objective(self) -> Quadratic:
        """E‖y − V x − b‖² with the best bias b for every V, where the unit has one; else E‖y − V x‖².

        Of inputs that do not vary it is the same for every V, without the rounding of their sums.
        """
        if not self.varies:
            nothing = torch.zeros_like(self.inputs.covariance), torch.zeros_like(self.covariance)
            return Quadratic(*nothing, self.variance if self.has_bias else self.energy)
        if self.has_bias:
            return Quadratic(self.inputs.covariance, self.covariance, self.variance)
        return Quadratic(self.inputs.moment, self.cross, self.energy)

    def damped(self, near: Tensor, share: float = DAMPING) -> Quadratic:
        """`objective`, with what the inputs do not tell decided by `near` (out, in)."""
        return self.objective().damped(near, share)

    def settled(self, form: Form) -> Form:
        """`form` with the bias that is best on average, where the unit has one."""
        if not self.has_bias or form.bias is None:
            return form
        weight = form.dense().to(self.mean.dtype)
        return replace(form, bias=best_bias(self.mean, self.inputs.mean, weight).to(form.bias))


def sites(
    model: Model,
    dense: Model,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    dtype: torch.dtype = torch.float32,
    rows: bool = False,
) -> Iterator[Site]:
    """The sites of the linear and convolutional `units` (of one group), in the order in which the model calls them.

    A unit may be written while the iterator waits; later sites then see its new outputs. Inputs that several
    units share (q, k and v of an attention) are summed once. Tokens that a batch's attention mask marks as
    padding do not count.

    Args:
        rows: hold every input and wanted output of one layer, for `Site.rows`.

    Raises:
        WorkError: a unit's inputs or outputs hold a NaN or an infinity.
    """
    fitted = [unit for unit in units if unit.kind in FITTED and getattr(unit.module, "groups", 1) == 1]
    last: tuple[_Given, _Shared] | None = None
    passing = {unit.name for unit in fitted if unit.kind == "linear" and not _through_inputs(unit)}
    for meeting in meetings(model, dense, fitted, batches, passing):
        given = _Given(meeting)
        known = last[1] if last is not None and last[0].is_of(meeting) else None
        site, shared = _site(meeting, known, dtype, rows)
        last = (given, shared)
        del shared
        give_back_free_memory()
        yield site
        site.activations.clear()
        del site
        give_back_free_memory()


class _Given:
    """What decides the rows of a layer's inputs: the tensors, unchanged since, and how they are cut into rows."""

    def __init__(self, meeting: Meeting) -> None:
        self.tensors = [Identity(tensor) for tensor in _tensors(meeting)]
        self.geometry = geometry(meeting.unit.module)

    def is_of(self, meeting: Meeting) -> bool:
        tensors = _tensors(meeting)
        same = len(tensors) == len(self.tensors) and all(map(Identity.is_of, self.tensors, tensors))
        return same and self.geometry == geometry(meeting.unit.module)


def _tensors(meeting: Meeting) -> list[Tensor]:
    pairs = ((passage.given, passage.dense_given) for passage in meeting.passages)
    return [tensor for pair in pairs for tensor in pair if tensor is not None]


def _through_inputs(unit: Unit) -> bool:
    """Whether E[y xᵀ] is had from E[x' xᵀ], of the inputs x' of the dense model: a linear layer wants y = W x' + b, and
    all layers that share x share that sum. Where inputs are more than outputs, E[y xᵀ] by itself is less to sum."""
    return unit.kind == "linear" and unit.shape[1] <= unit.shape[0]


@dataclass(frozen=True)
class _Shared:
    """What units of the same inputs x share: `crossing` is E[(x' − E[x'])(x − E[x])ᵀ], (in, in), with the inputs x' of
    the dense model; None where it was not asked for."""

    inputs: Inputs
    crossing: Tensor | None


def _site(meeting: Meeting, known: _Shared | None, dtype: torch.dtype, hold: bool) -> tuple[Site, _Shared]:
    """The site of the unit that all wait before, and what the next one shares if its inputs are the same: `known`."""
    unit, columns, rows_out = meeting.unit, meeting.unit.shape[1], meeting.unit.shape[0]
    device = meeting.passages[0].given.device
    inputs, dense_inputs, outputs = (Rows(size, dtype, device) for size in (columns, columns, rows_out))
    through_inputs = _through_inputs(unit) and (known is None or known.crossing is not None)
    own = Covariance(inputs, inputs) if known is None else None
    crossing = Covariance(dense_inputs, inputs) if through_inputs and known is None else None
    cross = None if through_inputs else Covariance(outputs, inputs)
    sums = [one for one in (own, crossing, cross) if one is not None]
    squares = torch.zeros(rows_out, dtype=torch.float64, device=device)
    activations, weight = [], None
    for passage, output in meeting.outputs():
        if through_inputs and weight is None:
            weight = meeting.dense_unit.read().dense()
        if hold:
            activations.append((passage, output))
        others: Iterable[Tensor | None] = repeat(None)
        if crossing is not None:
            assert passage.dense_given is not None
            others = _input_rows(unit, passage.dense_given, passage.mask)
        for (given, wanted), other in zip(_rows(unit, passage, output), others, strict=False):
            outputs.take(wanted)
            squares += outputs.new.square().sum(0, dtype=torch.float64)
            if sums:
                inputs.take(given)
            if other is not None:
                dense_inputs.take(other)
            for one in sums:
                one.add()
        del passage, output, given, wanted, other
    samples, mean = (inputs.count, inputs.mean) if known is None else (known.inputs.samples, known.inputs.mean)
    if not bool(torch.isfinite(outputs.mean).all() and torch.isfinite(mean).all()):
        raise WorkError(
            f"on the calibration batches the inputs or the wanted outputs of {unit.name} hold a NaN or an infinity:"
            " look at the model and at these batches."
        )
    if known is None:
        assert own is not None
        known = _Shared(Inputs(samples, mean, own.done()), None if crossing is None else crossing.done())
    if cross is not None:
        wanted_covariance = cross.done()
    else:
        assert weight is not None
        assert known.crossing is not None
        wanted_covariance = weight.to(dtype) @ known.crossing
    variance = (squares / max(1, outputs.count) - outputs.offset.square()).clamp_min_(0)
    return Site(unit, known.inputs, outputs.mean, wanted_covariance, variance, activations), known


def _rows(unit: Unit, passage: Passage, output: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs that count and the outputs that are wanted of them, in parts."""
    wanted = _output_rows(unit, passage, output)
    start = 0
    for rows in _input_rows(unit, passage.given, passage.mask):
        yield rows, wanted[start : start + len(rows)]
        start += len(rows)


def _input_rows(unit: Unit, given: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
    return (part[0] for part in input_rows(unit.module, given, mask))


def _output_rows(unit: Unit, passage: Passage, wanted: Tensor) -> Tensor:
    """The wanted outputs (n, out), in the order of `input_rows`."""
    mask = passage.mask
    kernel = getattr(unit.module, "kernel_size", None)
    if kernel is not None:
        return wanted.movedim(-len(kernel) - 1, -1).flatten(0, -2)
    if mask is not None and wanted.dim() > 2 and wanted.shape[:2] == mask.shape:
        wanted = wanted[mask.to(wanted.device) != 0]
    return wanted.flatten(0, -2)
