"""Read the forms in which a pipeline's inputs may come: batches, metrics, and the state of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rcc.artifact.on_demand import without_weights
from rcc.errors import Problems, UserError
from rcc.layers.model import Batch
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter
from rcc.models.batches import LABEL_NAMES, as_batch
from rcc.stages.base import UNCHANGED, Epochs, TrainingData

HELD_OUT = 4
"""One of so many batches is held out for the gate, where the same loader is given for both."""


@dataclass(frozen=True)
class Item:
    """One batch of a loader: the model's inputs by name, and what its outputs are compared with, if it has that."""

    batch: Batch
    targets: Tensor | None = None


def items_of(loader: Iterable[Any], model: Adapter) -> list[Item]:
    """Every batch of a loader, read once, so that a loader that shuffles gives each pass the same ones.

    Raises:
        UserError: it is no iterable, or holds something else than batches, see `as_batch`.
    """
    if not isinstance(loader, Iterable) or isinstance(loader, Mapping | Tensor | str):
        raise UserError(f"batches were given as {type(loader).__name__}: give a DataLoader, or a list of batches.")
    return [_item(batch, model) for batch in loader]


def _item(batch: Any, model: Adapter) -> Item:
    # Inputs by name are taken as they are: what names there may be is known to the model's `outputs` alone.
    by_name = isinstance(batch, Mapping) and all(isinstance(value, Tensor) for value in batch.values())
    named = dict(batch) if by_name else as_batch(batch, model)
    return Item(named, next((named[name] for name in LABEL_NAMES if name in named), None))


@dataclass(frozen=True)
class LoaderEpochs:
    """The batches of a loader, which is gone through anew in every epoch."""

    loader: Iterable[Any]
    model: Adapter
    steps: int

    def __call__(self, epoch: int) -> Iterator[Batch]:
        return (_item(batch, self.model).batch for batch in self.loader)


def training_of(training: Iterable[Any] | TrainingData | None, model: Adapter) -> TrainingData | None:
    """What stages learn from, given a loader, or as it is.

    Raises:
        UserError: it is neither, or its batches cannot be counted.
    """
    if training is None or not isinstance(training, Iterable):
        if training is not None and not callable(training):
            raise UserError(f"training is {type(training).__name__}: give a DataLoader, or a list of batches.")
        return training
    if not isinstance(training, Sized):
        raise UserError(f"training is {type(training).__name__}, which has no len(): give a DataLoader or a list.")
    loader, steps = training, len(training)

    def epochs(batch_size: int | None, augmentation: str, seed: int) -> Epochs:
        problems = Problems("training")
        for option, value, own in (("batch_size", batch_size, None), ("augmentation", augmentation, UNCHANGED)):
            problems.check(value == own, f"{option}={value} has no effect on a loader, whose batches come as they are.")
        problems.done()
        torch.manual_seed(seed)  # a loader that shuffles draws from the global generator
        return LoaderEpochs(loader, model, steps)

    return epochs


def held_out(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The batches stages learn from, and every fourth, which the gate looks at: never the same ones.

    Raises:
        UserError: there are fewer than two.
    """
    if len(items) < 2:
        raise UserError(
            f"{len(items)} batch cannot both calibrate stages and judge them: give a loader of two or more, or"
            " run(model, validator, calibration=batches) with a validator of its own data."
        )
    apart = [*range(HELD_OUT - 1, len(items), HELD_OUT)] or [len(items) - 1]
    return [item for place, item in enumerate(items) if place not in apart], [items[place] for place in apart]


def as_measurement(metrics: Measurement | Mapping[str, float] | float) -> Measurement:
    """A measurement of numbers by name, the first of them the primary one; or of one number, the 'score'.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(metrics, Measurement):
        return metrics
    if isinstance(metrics, int | float):
        metrics = {"score": metrics}
    if isinstance(metrics, Mapping) and metrics:
        found = tuple(Metric(str(name), float(value)) for name, value in metrics.items() if _is_number(value))
        if len(found) == len(metrics):
            return Measurement(found, found[0].name)
    raise UserError(
        f"metrics are {metrics!r}; they must be a rcc.Measurement, or numbers by name, better when higher and the"
        " primary one first, as {'accuracy': 0.91}."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)


def with_state(adapter: Adapter, state: Mapping[str, Tensor]) -> Adapter:
    """The model of `adapter` with the tensors of `state` in place of its own; `adapter` stays as it is.

    Raises:
        UserError: the names or shapes are not those of the model as it is now.
    """
    twin = copy.copy(adapter)
    twin.module = without_weights(adapter.module)
    try:
        twin.module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        found = " ".join(str(error).split()).rstrip(". ")
        raise UserError(
            f"model_state is no state dict of {type(adapter.module).__name__} as it is now: {found}. Give"
            " model.module.state_dict(), or the model itself."
        ) from None
    return twin
