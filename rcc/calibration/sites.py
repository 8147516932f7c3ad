"""Where a layer is fitted: the second moments of its inputs and of its inputs with the outputs it should give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rcc.calibration.input_rows import geometry, input_rows
from rcc.calibration.lockstep import Passage, meetings
from rcc.calibration.row_fit import FITTED, Answering, Batch
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.ops.quadratic import DAMPING, Quadratic
from rcc.ops.refit import best_bias
from rcc.ops.symmetric import add_gram_, mirror_


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
    passages: Sequence[Passage] = field(repr=False)

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every input (n, in) that counts with the output (n, out) that is wanted of it, part by part.

        Raises:
            ValueError: the iterator of `sites` has gone on, and activations are held for one layer at a time.
        """
        if not self.passages:
            raise ValueError(f"the activations at {self.unit.name} are gone: ask while the iterator of sites waits")
        return _rows(self.unit, self.passages)

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
    def note(self) -> str:
        """What a user should know before relying on the fit; empty where all is well."""
        if not self.fired:
            return "no calibration batch reached it with an input other than zero"
        if self.inputs.samples < len(self.inputs.mean):
            return (
                f"{self.inputs.samples} rows of calibration inputs for {len(self.inputs.mean)} dimensions:"
                " damping decides the rest"
            )
        return ""

    def objective(self) -> Quadratic:
        """E‖y − V x − b‖² with the best bias b for every V, where the unit has one; else E‖y − V x‖²."""
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
    model: Answering,
    dense: Answering,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    dtype: torch.dtype = torch.float32,
) -> Iterator[Site]:
    """The sites of the linear and convolutional `units` (of one group), in the order in which the model calls them.

    A unit may be written while the iterator waits; later sites then see its new outputs. Inputs that several
    units share (q, k and v of an attention) are summed once. Tokens that a batch's attention mask marks as
    padding do not count.

    Raises:
        WorkError: a unit's inputs or outputs hold a NaN or an infinity.
    """
    fitted = [unit for unit in units if unit.kind in FITTED and getattr(unit.module, "groups", 1) == 1]
    last: tuple[_Given, Inputs] | None = None
    for unit, passages in meetings(model, dense, fitted, batches):
        given = _Given.of(unit, passages)
        known = last[1] if last is not None and last[0].is_that(given) else None
        site = _site(unit, passages, known, dtype)
        last = (given, site.inputs)
        del given
        yield site
        passages.clear()


@dataclass(frozen=True)
class _Given:
    """What decides the rows of a layer's inputs: the tensors, unchanged since, and how they are cut into rows."""

    tensors: list[Tensor]
    versions: list[int]
    geometry: tuple[object, ...]

    @classmethod
    def of(cls, unit: Unit, passages: Sequence[Passage]) -> _Given:
        tensors = [passage.given for passage in passages]
        return cls(tensors, [tensor._version for tensor in tensors], geometry(unit.module))

    def is_that(self, other: _Given) -> bool:
        same = all(one is another for one, another in zip(self.tensors, other.tensors, strict=True))
        return same and (self.versions, self.geometry) == (other.versions, other.geometry)


def _site(unit: Unit, passages: Sequence[Passage], known: Inputs | None, dtype: torch.dtype) -> Site:
    """Means first, then the products of what deviates from them: sums of products less a product of sums would lose
    the covariance of inputs that hardly vary about a large mean."""
    rows_out, columns = unit.shape
    device = passages[0].given.device
    samples = 0
    mean, wanted_mean = (torch.zeros(size, dtype=torch.float64, device=device) for size in (columns, rows_out))
    for given, wanted in _rows(unit, passages):
        samples += len(given)
        wanted_mean += wanted.sum(0, dtype=torch.float64)
        if known is None:
            mean += given.sum(0, dtype=torch.float64)
    count = max(1, samples)
    centre = known.mean if known is not None else (mean / count).to(dtype)
    wanted_centre = (wanted_mean / count).to(dtype)
    if not bool(torch.isfinite(wanted_centre).all() and torch.isfinite(centre).all()):
        raise WorkError(
            f"on the calibration batches the inputs or the wanted outputs of {unit.name} hold a NaN or an infinity:"
            " look at the model and at these batches."
        )
    own = torch.zeros(columns, columns, dtype=dtype, device=device) if known is None else known.covariance
    cross = torch.zeros(rows_out, columns, dtype=dtype, device=device)
    variance = torch.zeros(rows_out, dtype=torch.float64, device=device)
    for given, wanted in _rows(unit, passages):
        rows, outputs = given.to(dtype) - centre, wanted.to(dtype) - wanted_centre
        cross.addmm_(outputs.T, rows, alpha=1 / count)
        variance += outputs.square().sum(0, dtype=torch.float64) / count
        if known is None:
            add_gram_(own, rows, 1 / count)
    return Site(unit, known or Inputs(samples, centre, mirror_(own)), wanted_centre, cross, variance, passages)


def _rows(unit: Unit, passages: Sequence[Passage]) -> Iterator[tuple[Tensor, Tensor]]:
    for passage in passages:
        start = 0
        wanted = _output_rows(unit, passage)
        for part in input_rows(unit.module, passage.given, passage.mask):
            rows = part[0]
            yield rows, wanted[start : start + len(rows)]
            start += len(rows)


def _output_rows(unit: Unit, passage: Passage) -> Tensor:
    """The wanted outputs (n, out), in the order of `input_rows`."""
    wanted, mask = passage.wanted, passage.mask
    kernel = getattr(unit.module, "kernel_size", None)
    if kernel is not None:
        return wanted.movedim(-len(kernel) - 1, -1).flatten(0, -2)
    if mask is not None and wanted.dim() > 2 and wanted.shape[:2] == mask.shape:
        wanted = wanted[mask.to(wanted.device) != 0]
    return wanted.flatten(0, -2)
