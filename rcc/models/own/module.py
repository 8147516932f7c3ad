"""Adapt any `nn.Module`; what the project needs besides the module is given as functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rcc.errors import Problems, UserError, listed
from rcc.layers.attention import open_attention
from rcc.layers.model import Batch
from rcc.layers.shared_head import open_shared_heads
from rcc.layers.units import Unit, find_units, is_layer
from rcc.models.adapter import Adapter
from rcc.models.batches import call_by_name, chosen_outputs, named_outputs
from rcc.models.single_layer import SingleLayer, class_name

BY_ROLE = ("linear", "conv")


class ModuleAdapter(Adapter):
    """A module from Python, for compressing a model of one's own.

    Args:
        module: the model; it is changed in place. A model that is one layer is held under the name 'layer'; each
            `nn.MultiheadAttention` becomes one whose projections are called, see `open_attention`, and a head that
            shares its weight with the token embedding asks that for its rows, see `open_shared_heads`.
        outputs: `batch -> tensors by name`; by default the module is called with the batch's entries as keyword
            arguments, see `call_by_name`, and what it returns is named as `named_outputs` says. A name, or several, as
            'logits', takes these of them alone: they are what counts as the model's output.
        loss: `batch -> scalar`, where a stage or a trainer needs one.
        prepare: from raw values of the fields it reads to a batch, as `(images, texts) -> batch` or `audio -> batch`,
            where raw inputs are to be read; a field that the data lacks is given as None.
        reads: the names of these fields, in the order of the parameters of `prepare`; by default the parameters' own.
        roles: `(module name, kind) -> (role, tower)`, as `rcc.models.roles.roles_of(module)` tells them of a
            transformer; by default the kind, and the first part of the name.
        default_roles: the roles compressed unless a stage says otherwise.

    Raises:
        UserError: parameters that a lazy module has not made yet, or that lie on several devices.
    """

    name: ClassVar[str] = "bare"
    default_roles: Sequence[str] = BY_ROLE  # type: ignore[misc]

    def __init__(
        self,
        module: nn.Module,
        *,
        outputs: Callable[[Batch], dict[str, Tensor]] | str | Sequence[str] | None = None,
        loss: Callable[[Batch], Tensor] | None = None,
        prepare: Callable[..., Batch] | None = None,
        reads: Sequence[str] | None = None,
        roles: Callable[[str, str], tuple[str, str]] | None = None,
        default_roles: Sequence[str] = BY_ROLE,
    ) -> None:
        if any(isinstance(each, nn.TransformerEncoderLayer) for each in module.modules()):
            # Its fast path reads weights past the layers that hold them, and knows only plain ones.
            torch.backends.mha.set_fastpath_enabled(False)
        _check(module)
        open_attention(module)
        open_shared_heads(module)
        self.module = SingleLayer(module) if is_layer(module) else module
        self.default_roles = default_roles
        self._outputs = outputs if callable(outputs) else None
        self._names = (outputs,) if isinstance(outputs, str) else () if callable(outputs) else tuple(outputs or ())
        self._loss, self._prepare, self._roles = loss, prepare, roles
        self.reads = tuple(reads or (() if prepare is None else _parameters(prepare)))

    @property
    def calls_by_name(self) -> bool:  # type: ignore[override]
        return self._outputs is None and type(self).outputs is ModuleAdapter.outputs

    def units(self) -> list[Unit]:
        return find_units(self.module, self._roles)

    def prepare(self, *values: Any, **fields: Any) -> Batch:
        """The batch of `values` in the order of `reads`, or of fields by name.

        Raises:
            UserError: there is no function for it, or it takes no such field.
        """
        if self._prepare is None:
            raise self._missing("prepare", "(images, texts) -> batch")
        given = dict(zip(self.reads, values, strict=False)) | fields
        problems = Problems("prepare")
        for name in given:
            problems.choice("field", name, self.reads)
        problems.done()
        return self._prepare(*(given.get(name) for name in self.reads))

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        if self._outputs is not None:
            return self._outputs(batch)
        result = call_by_name(self.module, batch)
        found = named_outputs(result)
        if not found:
            returned = f" Its forward returned {type(result).__name__}, in which there is no tensor."
            raise self._missing("outputs", "batch -> tensors by name", returned)
        return chosen_outputs(found, self._names, class_name(self.module))

    def loss(self, batch: Batch) -> Tensor:
        if self._loss is None:
            raise self._missing("loss", "batch -> scalar")
        return self._loss(batch)

    def save_files(self, directory: Path) -> None:
        """Nothing besides weights: the caller keeps the code that builds the module."""
        directory.mkdir(parents=True, exist_ok=True)

    @classmethod
    def around(cls, module: nn.Module, directory: Path) -> Self:
        """An adapter of `module` for the artifact in `directory`, whose weights are not read here."""
        return cls(module)

    @classmethod
    def skeleton(cls, directory: Path) -> Self:
        """None: no code is imported because a file names it.

        Raises:
            UserError: always; says how to give the module.
        """
        raise UserError(
            f"'{directory}' was written from a bare nn.Module, whose code only you have. Build the module and"
            " pass it: rcc.load(directory, skeleton=module)."
        )

    def _missing(self, what: str, kind: str, found: str = "") -> UserError:
        return UserError(
            f"ModuleAdapter of {class_name(self.module)} has no {what}; give a function {kind} as"
            f" ModuleAdapter(module, {what}=...).{found}"
        )


def _parameters(prepare: Callable[..., Batch]) -> tuple[str, ...]:
    """The fields that a function reads: its positional parameters by name."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, each in inspect.signature(prepare).parameters.items() if each.kind in kinds)


def _check(module: nn.Module) -> None:
    problems = Problems(f"the model {type(module).__name__}")
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    lazy = [name for name, tensor in tensors.items() if is_lazy(tensor)]
    problems.check(
        not lazy,
        f"{listed(lazy)} of lazy modules are uninitialized: run one forward first, so that they get their shapes.",
    )
    places: dict[str, str] = {}
    for name, tensor in tensors.items():
        if tensor.device.type != "meta":  # weights still to be loaded
            places.setdefault(str(tensor.device), name)
    where = ", ".join(f"{name} on {place}" for place, name in places.items())
    problems.check(
        len(places) < 2, f"its tensors lie on several devices ({where}): move it to one, as by module.to('cpu')."
    )
    problems.done()
