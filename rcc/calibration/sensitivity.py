"""Estimate how far the model's outputs move with each layer's weight, for all layers at once, by random projections.

For a normalised output e and a small change δ of a weight, the distance 1 − cos is ½ ‖J δ‖², J = ∂e/∂W. The trace of
JᵀJ is the mean of ‖Jᵀ v‖² over v with independent entries of variance 1 (Hutchinson 1990), and one backward pass gives
Jᵀ v for every layer. So a few passes over some items tell what each layer's error costs.

An error of a weight moves all places of an item together: what counts of a layer is Σₚ g(p) x(p)ᵀ over its places p,
summed before it is squared, g being the gradient by its output and x its input. Squaring place by place instead is
wrong by up to ten times in convolutions, either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.calibration.call_order import first_input
from rcc.layers.input_rows import input_rows
from rcc.layers.model import Batch, Model
from rcc.layers.modes import differentiating, evaluating
from rcc.layers.padding import mask_of, without_padding
from rcc.layers.units import Unit
from rcc.memory import give_back_free_memory
from rcc.ops.quadratic import shrunk

ITEMS = 64
"""Items looked at, unless told otherwise: the mean of their squares is then good to some 10 %."""
PART = 4
"""Items that go forward and back together: what is kept of them in between is what the pass takes in memory."""


@dataclass(frozen=True)
class Sensitivity:
    """Of one unit, in float64.

    rows: (out,). An error δᵢ of row i moves the outputs by ½ rowsᵢ δᵢ C δᵢᵀ in 1 − cos, C being the covariance of the
        inputs: rowsᵢ is the mean over items of ‖Σₚ gᵢ(p) (x(p) − x̄)‖², over tr C. Of an embedding, whose inputs are no
        values, it is a row for each token, and C is how errors of its columns go together: `columns`.
    variance: (out,), that of yᵢ about its mean, over the places that are no padding; (columns,) of an embedding.
    inputs: (groups, in), the diagonal of C of each group of channels; (1, columns) of an embedding.
    columns: of an embedding, (columns, columns): the mean over tokens and items of g gᵀ, g being the gradient by the
        token's row, over the mean of its diagonal; shrunk as far as these are few. None of other units.
    """

    rows: Tensor
    variance: Tensor
    inputs: Tensor
    columns: Tensor | None = None

    @property
    def weight(self) -> float:
        """1 − cos of the model's outputs for each unit of relative error E‖δ x‖² / E‖y − ȳ‖² spread over the rows as
        noise is: ½ Σ rows · mean variance."""
        return 0.5 * float(self.rows.sum()) * float(self.variance.mean())

    @property
    def energy(self) -> float:
        """E‖y − ȳ‖², what relative errors are relative to."""
        return float(self.variance.sum())


def sensitivities(
    model: Model,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    generator: torch.Generator,
    items: int = ITEMS,
) -> dict[str, Sensitivity]:
    """The sensitivity of the outputs to each linear, convolutional and embedding unit, by name; those never called are
    absent.

    Args:
        batches: the first of them are looked at, until there are `items` items.
        generator: of the random directions; the same one gives the same numbers.

    A unit that is called several times, or under several names, counts with all its calls, each by itself. One that the
    outputs do not depend on has rows of zero.

    Cost: two forward and one backward pass over these items, with the activations of `PART` items in memory; those of a
    batch where not all of its tensors, or of the outputs, are one row an item. Of each layer, a product of its inputs
    and gradients for every item: what a weight's gradient costs, or less where places are few.
    """
    sums = {unit.name: _Sums(unit) for unit in units if unit.summing or unit.kind == "embedding"}
    looked_at = _first(model, batches, items)
    _gather_spreads(model, sums, [part for parts, _ in looked_at for part in parts])
    seen = 0
    with differentiating(model.module):
        for parameter in model.module.parameters():
            parameter.requires_grad_(False)
        for parts, shapes in looked_at:
            signs = {name: _signs(shapes[name], generator) for name in sorted(shapes)}
            seen += len(next(iter(signs.values())))
            start = 0
            for part in parts:
                with _probed(sums) as probes:
                    outputs = model.outputs(part)
                    probes.items = len(next(iter(outputs.values())))
                    end = start + probes.items
                    total = _projection(outputs, {name: every[start:end] for name, every in signs.items()})
                    # Blocks under activation checkpointing are called again in the backward pass, which must build
                    # the same graph (so the probes stay) and is not to be summed twice.
                    probes.summing = False
                    if total.requires_grad:  # as it does not where the outputs depend on no unit
                        total.backward()
                start = end
    give_back_free_memory()
    return {name: one.sensitivity(seen) for name, one in sums.items() if one.outputs.count}


def _first(model: Model, batches: Sequence[Batch], items: int) -> list[tuple[list[Batch], dict[str, torch.Size]]]:
    """The first of the batches, until there are so many items: each in parts, with the shapes of its outputs."""
    found, seen = [], 0
    for batch in batches:
        if seen >= items:
            break
        parts, shapes = _parts(model, batch)
        seen += next(iter(shapes.values()))[0]
        found.append((parts, shapes))
    return found


def _parts(model: Model, batch: Batch) -> tuple[list[Batch], dict[str, torch.Size]]:
    """`batch` in parts of `PART` items, or as it is where it cannot be parted, and the shapes of its outputs."""
    sizes = {tensor.shape[:1] for tensor in batch.values()}
    if len(sizes) == 1 and (size := sum(next(iter(sizes)))) > PART:
        parts = [{key: tensor[start : start + PART] for key, tensor in batch.items()} for start in range(0, size, PART)]
        shapes = _shapes(model, parts[0])
        if all(len(shape) > 1 and shape[0] == PART for shape in shapes.values()):
            return parts, {name: torch.Size((size, *shape[1:])) for name, shape in shapes.items()}
    return [batch], _shapes(model, batch)


@torch.no_grad()
def _shapes(model: Model, batch: Batch) -> dict[str, torch.Size]:
    return {name: output.shape for name, output in model.outputs(batch).items()}


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator).mul_(2).sub_(1)


def _projection(outputs: Mapping[str, Tensor], signs: Mapping[str, Tensor]) -> Tensor:
    """Σ ⟨v, e⟩ over items and named outputs, e normalised along its last dimension, v of ±1."""
    total: Any = 0
    for name in sorted(outputs):
        rows = outputs[name] if outputs[name].dim() > 1 else outputs[name].reshape(1, -1)
        total = total + (F.normalize(rows, dim=-1) * signs[name].reshape(rows.shape).to(rows)).sum()
    return total


class _Spread:
    """Mean and variance of each of some values over rows that come part by part, in float64.

    Sums are of what deviates from the mean of the first rows, so that little of a small variance is lost.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift: Tensor | None = None
        self._sum, self._squares = (torch.zeros((), dtype=torch.float64) for _ in range(2))

    def take(self, rows: Tensor) -> None:
        """Take rows (n, values) in."""
        wide = rows.double()
        if self._shift is None:
            self._shift = wide.mean(0) if len(wide) else wide.new_zeros(wide.shape[1])
        apart = wide - self._shift
        self.count += len(apart)
        self._sum = self._sum + apart.sum(0).cpu()
        self._squares = self._squares + apart.square_().sum(0).cpu()

    @property
    def mean(self) -> Tensor:
        assert self._shift is not None
        return self._shift.cpu() + self._sum / max(1, self.count)

    @property
    def variance(self) -> Tensor:
        count = max(1, self.count)
        return (self._squares / count - (self._sum / count).square()).clamp_min(0)


class _Sums:
    """What is summed over the places and items of one unit."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.inputs, self.outputs = _Spread(), _Spread()
        self.squares = torch.zeros(unit.shape[0], dtype=torch.float64)
        table = unit.kind == "embedding"
        self.holding = torch.zeros(unit.shape[0] if table else 0, dtype=torch.float64)
        self.products = torch.zeros((unit.shape[1], unit.shape[1]) if table else 0, dtype=torch.float64)
        self._centre: Tensor | None = None

    def add_call(self, module: nn.Module, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        """Take in what a call was given and put out, padding left out."""
        channel = _channel(module)
        output = output.movedim(channel, -1)
        # Channels that are not last are those of images, whose batch and height are no batch and length.
        self.outputs.take((without_padding(output, mask) if channel == -1 else output).flatten(0, -2))
        if self.unit.kind == "embedding":
            return
        for rows in input_rows(module, given, mask, _size(module, output)):
            self.inputs.take(rows.movedim(0, 1).flatten(1))

    def add_gradient(self, module: nn.Module, given: Tensor, gradient: Tensor, items: int) -> None:
        """Take in the gradient of the projection by the output of a call, of so many items."""
        gradient = gradient.movedim(_channel(module), -1)
        if self.unit.kind == "embedding":
            self._add_tokens(given, gradient, items)
            return
        rows = torch.cat(list(input_rows(module, given, None, _size(module, gradient))), 1)
        groups, total, width = rows.shape
        # Of an item: all places, of all windows that it was cut into. Where rows and items do not go together, each
        # row counts by itself.
        count = items if total % max(1, items) == 0 else total
        if self._centre is None:
            self._centre = self.inputs.mean.view(groups, 1, width)
        apart = (rows - self._centre.to(rows)).view(groups, count, -1, width)
        by_group = gradient.reshape(count, -1, groups, self.unit.shape[0] // groups).movedim(2, 0)  # (G, b, P, out)
        for item in range(count):
            self.squares += _squared_norms(by_group[:, item], apart[:, item]).reshape(-1).cpu()

    def _add_tokens(self, ids: Tensor, gradient: Tensor, items: int) -> None:
        """Of each token, the gradients at all its places in an item, summed; and in how many items it is."""
        ids, gradient = ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1])
        count = items if len(ids) % max(1, items) == 0 else len(ids)
        for own, by_place in zip(ids.view(count, -1), gradient.view(count, -1, gradient.shape[-1]), strict=True):
            present, inverse = own.unique(return_inverse=True)
            by_token = by_place.new_zeros(len(present), by_place.shape[1]).index_add_(0, inverse, by_place)
            self.products += (by_token.T @ by_token).double().cpu()
            self.squares.index_add_(0, present.cpu(), by_token.double().square_().sum(1).cpu())
            self.holding[present.cpu()] += 1

    def sensitivity(self, items: int) -> Sensitivity:
        rows = self.squares / max(1, items)
        if self.unit.kind == "embedding":
            columns = self._columns(items)
            rows = _smoothed(rows, self.holding) / self.unit.shape[1]
            return Sensitivity(rows, self.outputs.variance, columns.diagonal()[None], columns)
        inputs = self.inputs.variance.view(-1, self.unit.shape[1])
        spread = inputs.sum(1).repeat_interleave(self.unit.shape[0] // len(inputs))
        # Inputs that never vary: a bias makes up for any error.
        return Sensitivity(torch.where(spread > 0, rows / spread, 0.0), self.outputs.variance, inputs)

    def _columns(self, items: int) -> Tensor:
        """How errors of the columns of a table count together, of mean diagonal 1; the identity where none counts."""
        total = self.products.diagonal().sum()
        if not total > 0:
            return torch.eye(len(self.products), dtype=torch.float64)
        # Gradients of one item resemble one another, as its inputs do: as in `Inputs.independent`.
        independent = math.sqrt(float(self.holding.sum()) * items)
        return shrunk(self.products * (len(self.products) / total), independent)[0]


def _squared_norms(gradients: Tensor, inputs: Tensor) -> Tensor:
    """‖Σₚ gᵢ(p) x(p)‖² of each row i, (G, out), float64, of gradients (G, places, out) and inputs (G, places, in)."""
    places, width = inputs.shape[1:]
    if places < width:  # the products of the inputs are fewer values than those of both
        products = inputs @ inputs.transpose(1, 2)
        return ((products @ gradients) * gradients).sum(1, dtype=torch.float64).clamp_min_(0)
    return (gradients.transpose(1, 2) @ inputs).double().square_().sum(2)


def _smoothed(rows: Tensor, holding: Tensor) -> Tensor:
    """`rows` of tokens, in how many items each was found being `holding`: of those that were not found, all together
    what tokens found in one item alone count, shared alike.

    Of a token in one item, that item apart, the others would have told nothing: what such tokens count is what unseen
    ones are to be expected to (Good 1953, of costs in place of numbers). Rare tokens cost more than others do.
    """
    found = holding > 0
    if bool(found.all()) or not bool(found.any()):
        return rows
    once = rows[holding == 1].sum()
    least = rows[found].sum() / holding.sum()  # where every token is in several items, as if one more were in one
    return torch.where(found, rows, torch.maximum(once, least) / (~found).sum())


def _channel(module: Any) -> int:
    """The dimension of a layer's outputs that its channels are."""
    kernel = getattr(module, "kernel_size", None)
    return -1 if kernel is None else -len(kernel) - 1


def _size(module: Any, output: Tensor) -> Any:
    """The places of a transposed convolution's output, whose channels are last by now; None of any other layer."""
    return output.shape[-len(module.kernel_size) - 1 : -1] if getattr(module, "transposed", False) else None


@torch.no_grad()
def _gather_spreads(model: Model, sums: Mapping[str, _Sums], parts: Sequence[Batch]) -> None:
    """Take in what every unit is given and puts out on `parts`."""
    mask: Tensor | None = None

    def called(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        sums[name].add_call(module, first_input(args, kwargs), output, mask)

    with evaluating(model.module), ExitStack() as hooks:
        for name, module in _modules(sums):
            hooks.callback(module.register_forward_hook(partial(called, name), with_kwargs=True).remove)
        for part in parts:
            mask = mask_of(part)
            model.outputs(part)


def _modules(sums: Mapping[str, _Sums]) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, one in sums.items() for module in one.unit.modules())


@dataclass
class _Probes:
    """Whether calls are added to the sums, and how many items there are in a forward."""

    summing: bool = True
    items: int = 1


class _Told(torch.autograd.Function):
    """Passes a layer's output on, and tells its gradient, with what the layer was given, once it is complete.

    What was given is a saved tensor: under activation checkpointing it is computed again rather than kept.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, given: Tensor, tell: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(given)
        ctx.tell = tell
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (given,) = ctx.saved_tensors
        ctx.tell(given, gradients[0])
        return gradients[0], None, None


@contextmanager
def _probed(sums: Mapping[str, _Sums]) -> Iterator[_Probes]:
    """Inside, the gradient by every output of a unit is added to its sums the moment it is complete."""
    probes = _Probes()

    def hook(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        given = first_input(args, kwargs).detach()
        if not output.requires_grad:  # nothing before it does; and no leaf, which must not be changed in place
            output = output.detach().requires_grad_().clone()
        summing = probes.summing

        def tell(given: Tensor, gradient: Tensor) -> None:
            if summing:
                with torch.no_grad():
                    sums[name].add_gradient(module, given, gradient, probes.items)

        told: Tensor = _Told.apply(output, given, tell)
        return told

    with ExitStack() as hooks:
        for name, module in _modules(sums):
            hooks.callback(module.register_forward_hook(partial(hook, name), with_kwargs=True).remove)
        yield probes
