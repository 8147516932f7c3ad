"""Hold a compressed model's zeros, grids, factors and folded norms while an ordinary optimiser trains it.

Each stored matrix gets a parametrisation (`torch.nn.utils.parametrize`): the optimiser moves a latent matrix, and the
layer computes with what the form allows of it. No projection after a step: one would throw away every step that is
smaller than half a quantisation step, while a latent adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcc.layers.batch_norm import is_fixed, is_folded, is_without_statistics, stay_in_evaluation
from rcc.layers.form import MATRICES
from rcc.layers.grid import from_grid, round_vector, to_grid, to_multiples
from rcc.layers.model import Model
from rcc.layers.modules import FormModule
from rcc.layers.units import Unit, find_units
from rcc.learning.trimming import VECTORS, least_level, with_fewer_raised, with_shorter_mantissas


class Held:
    """The matrices and norms that `held` holds. As a context manager it releases them at its end.

    Args:
        root: the network that they are of.
        places: each module with the name of its parameter.
        norms: those that stay in evaluation mode.
        storage: what an artifact is to store values in.
    """

    def __init__(
        self,
        root: nn.Module,
        places: Sequence[tuple[nn.Module, str]],
        norms: Sequence[_HeldNorm] = (),
        storage: torch.dtype = torch.float32,
    ) -> None:
        self.root, self.places, self.norms, self.storage = root, list(places), list(norms), storage
        vectors = [each for each in self._floating() if each.dim() == 1 and len(each) > 1]
        self._alike = {each for each in vectors if bool((each == each[0]).all())}
        self._fits: Callable[[], bool] | None = None
        self._before: dict[nn.Parameter, Tensor] = {}
        self._multiples = {each for each in vectors if to_multiples(each.detach().to(storage)) is not None}

    def _floating(self) -> list[nn.Parameter]:
        return [each for each in self.root.parameters() if each.is_floating_point()]

    def trained(self) -> list[nn.Parameter]:
        """The parameters that may be trained, each once.

        All but vectors of one value, as norms have that were folded and biases that were dropped: what is given them is
        what another parameter could have as well, and they take no bytes.
        """
        return [each for each in self._floating() if each not in self._alike]

    def keep_within(self, fits: Callable[[], bool]) -> None:
        """From now on let `as_stored` give values that also take few enough bytes.

        Args:
            fits: whether the model as it is takes few enough; it does now. What it has now is kept, a byte a whole
                number and any other value as it is stored.
        """
        grids = dict(self._on_grids())
        self._fits = fits
        self._before = {
            each: to_grid(each.detach(), grids[each]) if each in grids else each.detach().to(self.storage, copy=True)
            for each in self._floating()
        }

    @contextmanager
    def as_stored(self) -> Iterator[None]:
        """Inside, every parameter has values that an artifact of the storage dtype keeps to the bit: what is measured
        there is what is shipped. Afterwards those that were trained are back.

        Matrices of whole numbers are that already. Vectors that took a byte a value when they were first held come to
        the nearest multiples of one step.
        """
        grids = dict(self._on_grids())
        moved = [each for each in self._floating() if self._fits is not None or each not in grids]
        kept = [each.detach().clone() for each in moved]
        with torch.no_grad():
            for each in moved:
                if each not in grids:
                    whole = each in self._multiples
                    each.copy_(round_vector(each, self.storage) if whole else each.to(self.storage))
        if self._fits is not None:
            self._trim(self._fits, dict(zip(moved, kept, strict=True)), grids)
        try:
            yield
        finally:
            with torch.no_grad():
                for each, before in zip(moved, kept, strict=True):
                    each.copy_(before)

    def _trim(
        self, fits: Callable[[], bool], trained: Mapping[nn.Parameter, Tensor], grids: Mapping[nn.Parameter, Tensor]
    ) -> None:
        """Move matrices to values that are cheaper to code, as little as it takes: see `rcc.learning.trimming`."""

        @torch.no_grad()
        def at(level: float) -> bool:
            for each, values in trained.items():
                before = self._before[each]
                if each in grids:
                    step = grids[each]
                    latent = values / step.to(values.dtype)[:, None]
                    each.copy_(from_grid(before if level == 1 else with_fewer_raised(latent, before, level), step))
                elif level == 1 or (each.dim() < 2 and level > VECTORS):
                    each.copy_(before)
                elif each.dim() > 1:
                    each.copy_(with_shorter_mantissas(values, level, self.storage))
            return fits()

        least_level(at)

    def _on_grids(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """What the optimiser moves of the matrices that are held on grids, each with its steps."""
        return ((latent, keep.step) for keep, latent in self._kept() if keep.step is not None)

    def prunable(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """What the optimiser moves of each matrix whose zeros may be chosen anew, and the mask of its zeros, to be
        written to. The masks are in the network's state; gradients pass through them until `stop_pruning`."""
        masks = {latent: keep.zeros for keep, latent in self._kept() if keep.open}
        return ((latent, mask) for latent, mask in masks.items() if mask is not None)

    def stop_pruning(self) -> None:
        """Hold the zeros as they are now."""
        for keep, _ in self._kept():
            keep.open = False

    def _kept(self) -> Iterator[tuple[_FormOf, nn.Parameter]]:
        """What holds each matrix, and what the optimiser moves of it: of a tied one the same each time."""
        for module in self.root.modules():
            if parametrize.is_parametrized(module):
                for each in module.parametrizations.values():  # type: ignore[operator, union-attr]
                    if isinstance(each[0], _FormOf):
                        yield each[0], each.original

    def release(self) -> None:
        """Leave every matrix as the form allowed it last, as a plain parameter: the one that was trained; and every
        norm to the mode of its network."""
        while self.places:
            module, name = self.places.pop()
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        while self.norms:
            self.norms.pop().release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def held(
    model: Model | nn.Module,
    units: Sequence[Unit] | None = None,
    storage: torch.dtype = torch.float32,
    pruned: Collection[Unit] = (),
) -> Held:
    """Hold the form of every compressed layer of `model` from now on, until `Held.release`.

    Zeros stay zeros. A matrix of whole numbers of a step stays on its grid, no number larger than the largest it has
    now; gradients pass straight through the rounding (Bengio et al. 2013, arXiv:1308.3432), except where the latent has
    left the grid's range. U and V train as the factors they are, scales and biases freely, a tied weight once. What a
    layer reads as (`Unit.read`, `rcc.save`) is what it computes with. A batch norm whose statistics are constants,
    since it was folded before compression, stays in evaluation mode whatever the mode of its network; one that does
    nothing trains nothing.

    >>> model = rcc.load("artifact", trainable=True)  # does the same
    >>> optimiser = torch.optim.AdamW(model.module.parameters(), 1e-4)

    Args:
        model: a model or a module; changed in place, its parameters stay the same objects.
        units: which of its units to hold; by default all that can be compressed.
        storage: what an artifact is to store values in, see `Held.as_stored`.
        pruned: those of the units whose zeros are to be chosen anew, see `Held.prunable`.
    """
    names = {unit.name for unit in pruned}
    if units is None:
        units = find_units(model) if isinstance(model, nn.Module) else model.units()
    root = model if isinstance(model, nn.Module) else model.module
    norms = [_HeldNorm(norm) for norm in root.modules() if is_fixed(norm) and is_without_statistics(norm)]
    places = []
    masks: dict[int, Tensor | None] = {}
    for unit in units:
        if unit.obstacle:
            continue
        for module in unit.modules():
            for name in MATRICES if isinstance(module, FormModule) else ("weight",):
                keep = None if parametrize.is_parametrized(module, name) else _of(module, name, unit.name in names)
                if keep is not None:
                    # One mask for a matrix that several modules share, so that they see the same zeros chosen.
                    keep.zeros = masks.setdefault(id(getattr(module, name)), keep.zeros)
                    # `unsafe` leaves out a check by a forward, which the form passes by construction.
                    parametrize.register_parametrization(module, name, keep, unsafe=True)
                    places.append((module, name))
    return Held(root, places, norms, storage)


class _HeldNorm:
    """A batch norm without statistics of its own, kept in evaluation mode; frozen too where it was folded."""

    def __init__(self, norm: nn.Module) -> None:
        self._hook = norm.register_forward_pre_hook(stay_in_evaluation)
        self._frozen = [each for each in norm.parameters() if each.requires_grad] if is_folded(norm) else []
        for parameter in self._frozen:
            parameter.requires_grad_(False)

    def release(self) -> None:
        self._hook.remove()
        for parameter in self._frozen:
            parameter.requires_grad_(True)


def _of(module: Any, name: str, pruned: bool) -> _FormOf | None:
    """What holds the matrix; None where it is absent or has nothing to hold."""
    matrix = getattr(module, name, None)
    if not isinstance(matrix, nn.Parameter):
        return None
    step = getattr(module, f"{name}_step", None)
    zeros = matrix.detach() == 0
    some = bool(zeros.any())
    if step is None and not some and not pruned:
        return None
    largest = 0 if step is None else int(to_grid(matrix.detach(), step).abs().max())
    return _FormOf(zeros if some or pruned else None, step, largest, pruned)


class _FormOf(nn.Module):
    """What the form allows of a latent matrix: zeros where they were, and whole numbers of a step.

    One that is `open` lets gradients pass through its zeros, so that others may be chosen.
    """

    holds_form = True
    zeros: Tensor | None
    step: Tensor | None

    def __init__(self, zeros: Tensor | None, step: Tensor | None, largest: int, open_: bool = False) -> None:
        super().__init__()
        self.open = open_
        self.register_buffer("zeros", zeros, persistent=open_)
        self.register_buffer("step", step, persistent=False)
        self.largest = largest

    def forward(self, latent: Tensor) -> Tensor:
        if self.step is not None:
            return _OnGrid.apply(latent, self.step, self.largest, self.zeros, self.open)  # type: ignore[no-any-return]
        assert self.zeros is not None  # what has neither a step nor zeros is not held
        return _Masked.apply(latent, self.zeros) if self.open else latent.masked_fill(self.zeros, 0.0)

    def right_inverse(self, matrix: Tensor) -> Tensor:
        return matrix


class _Masked(torch.autograd.Function):
    """Fills zeros in, and passes gradients on as if it did not."""

    @staticmethod
    def forward(context: Any, latent: Tensor, zeros: Tensor) -> Tensor:
        return latent.masked_fill(zeros, 0.0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _OnGrid(torch.autograd.Function):
    """Rounds to the grid, exactly: x + (q(x) − x).detach(), the usual way, is off by the rounding of its sums.

    One operation with its mask of zeros, in place where it can: each new matrix costs as much as the arithmetic on it.
    """

    @staticmethod
    def forward(context: Any, latent: Tensor, step: Tensor, largest: int, zeros: Tensor | None, open_: bool) -> Tensor:
        steps = latent / step.to(latent.dtype)[:, None]
        limit = largest + 0.5  # up to here a latent rounds to the largest number by itself
        still = (steps > limit).logical_or_(steps < -limit)
        whole = steps.round_().clamp_(-largest, largest)
        if zeros is not None:
            whole.masked_fill_(zeros, 0.0)
            if not open_:
                still.logical_or_(zeros)
        context.save_for_backward(still)
        return from_grid(whole, step).to(latent.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (still,) = context.saved_tensors
        return gradients[0].masked_fill(still, 0.0), None, None, None, None
