"""Adapt the model, the batches and the loss that a stage is given by hand, outside a cascade."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rcc.errors import UserError
from rcc.layers.model import Batch, Model
from rcc.models.adapter import Adapter
from rcc.models.batches import LABELS, as_batch
from rcc.models.device import pick_device
from rcc.models.own.module import ModuleAdapter


def adapted(model: nn.Module | Model, device: str | torch.device | None = None) -> Model:
    """An adapter of `model` as it is, or as a pipeline makes one of a bare module; on `device` where one is given.

    Raises:
        UserError: this machine has no such device, or the module cannot be adapted, see `ModuleAdapter`.
    """
    if device is not None:
        (model if isinstance(model, nn.Module) else model.module).to(pick_device(device))
    return ModuleAdapter(model) if isinstance(model, nn.Module) else model


def labelled_batches(dataloader: Iterable[Any], model: Model) -> list[Batch]:
    """Every batch of a loader by name, its targets under 'labels'.

    Raises:
        UserError: no batches, or one without targets.
    """
    batches = [as_batch(item, model) if isinstance(model, Adapter) else dict(item) for item in dataloader]
    lacking = [str(number) for number, batch in enumerate(batches) if LABELS not in batch]
    if lacking or not batches:
        found = f"batch {', '.join(lacking[:8])} has none" if batches else "there are none"
        raise UserError(f"batches need inputs and targets, and {found}: give pairs (x, y), or 'labels' by name.")
    return batches


def first_output_loss(model: Model, criterion: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Batch], Tensor]:
    """The loss of a batch: `criterion` of the model's first output and the batch's targets."""

    def loss(batch: Batch) -> Tensor:
        return criterion(next(iter(model.outputs(batch).values())), batch[LABELS])

    return loss
