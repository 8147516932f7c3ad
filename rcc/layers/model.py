"""Declare what every room needs of a model: one protocol, and the batch of named tensors that it reads.

The adapters of `rcc.models` fulfil it; the rooms below them know a model only by this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from rcc.layers.units import Unit

Batch = dict[str, Tensor]
"""A model's inputs by name, and under 'labels' what a loss compares with; each (batch, …)."""


class Model(Protocol):
    """A module with compressible units, named outputs and a loss."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def default_roles(self) -> Sequence[str]:
        """Roles of the units that a stage compresses unless it is told which."""
        ...

    def units(self) -> list[Unit]:
        """Every weight that a form can hold, in module order."""
        ...

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """The tensors a user of the model reads, by name, each (batch, …), differentiable."""
        ...

    def loss(self, batch: Batch) -> Tensor:
        """The model's own training loss on the batch, a scalar."""
        ...
