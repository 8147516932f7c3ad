"""Hold a compressed model's zeros, grids, factors and folded norms while an ordinary optimiser trains it.

Each stored matrix gets a parametrisation (`torch.nn.utils.parametrize`): the optimiser moves a latent matrix, and the
layer computes with what the form allows of it. No projection after a step: one would throw away every step that is
smaller than half a quantisation step, while a latent adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcc.layers.batch_norm import is_fixed, is_folded, is_without_statistics, stay_in_evaluation
from rcc.layers.form import MATRICES
from rcc.layers.grid import from_grid, round_vector, to_grid, to_multiples
from rcc.layers.model import Model
from rcc.layers.modules import FormModule
from rcc.layers.units import Unit, find_units
from rcc.learning.form_of import FormOf
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
        factors = {keep.factor for keep, _ in self._kept() if keep.factor is not None}
        self._free = [each for each in self._floating() if each not in factors]
        vectors = [each for each in self._free if each.dim() == 1 and len(each) > 1]
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
        moved = [each for each in self._free if each not in grids] if self._fits is None else self._floating()
        kept = [each.detach().clone() for each in moved]
        with torch.no_grad():
            for each in self._free:
                if each not in grids:
                    whole = each in self._multiples
                    each.copy_(round_vector(each, self.storage) if whole else each.to(self.storage))
        if self._fits is not None:
            values = (
                (each, each.clone() if each.dim() < 2 else before) for each, before in zip(moved, kept, strict=True)
            )
            self._trim(self._fits, dict(values), grids)
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
            for each, values in trained.items():  # vectors first, the factors of learned steps among them
                if each.dim() < 2:
                    each.copy_(self._before[each] if level > VECTORS else values)
            for keep, _ in self._kept():
                keep.take_steps()
            for each, values in trained.items():
                before = self._before[each]
                if each in grids:
                    step = grids[each]
                    latent = values / step.to(values.dtype)[:, None]
                    each.copy_(from_grid(before if level == 1 else with_fewer_raised(latent, before, level), step))
                elif level == 1:
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
        masks = {latent: keep.zeros for keep, latent in self._kept() if keep.is_open}
        return ((latent, mask) for latent, mask in masks.items() if mask is not None)

    def stop_pruning(self) -> None:
        """Hold the zeros as they are now."""
        for keep, _ in self._kept():
            keep.is_open = False

    def _kept(self) -> Iterator[tuple[FormOf, nn.Parameter]]:
        """What holds each matrix, and what the optimiser moves of it: of a tied one the same each time."""
        for module in self.root.modules():
            if parametrize.is_parametrized(module):
                for each in module.parametrizations.values():  # type: ignore[operator, union-attr]
                    if isinstance(each[0], FormOf):
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
    learn_steps: bool = False,
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
        learn_steps: whether the steps of whole numbers are trained too, see `rcc.learning.form_of`.
    """
    names = {unit.name for unit in pruned}
    if units is None:
        units = find_units(model) if isinstance(model, nn.Module) else model.units()
    root = model if isinstance(model, nn.Module) else model.module
    norms = [_HeldNorm(norm) for norm in root.modules() if is_fixed(norm) and is_without_statistics(norm)]
    places = []
    first: dict[int, FormOf] = {}
    for unit in units:
        if unit.obstacle:
            continue
        for module in unit.modules():
            for name in MATRICES if isinstance(module, FormModule) else ("weight",):
                if parametrize.is_parametrized(module, name):
                    continue
                keep = FormOf.of(module, name, unit.name in names, storage if learn_steps else None)
                if keep is not None:
                    # What is chosen and learned of a matrix that several modules share is one.
                    same = first.setdefault(id(getattr(module, name)), keep)
                    keep.zeros, keep.factor = same.zeros, same.factor
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
