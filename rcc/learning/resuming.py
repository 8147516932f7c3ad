"""Take all that a training's next step depends on, and put it back: what makes a resume exact to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from rcc.learning.checkpoint import (
    copy_into,
    load_optimiser,
    optimiser_tensors,
    refuse_differences,
    refuse_others,
    tensors_of,
    under,
)
from rcc.learning.history import Standing
from rcc.randomness import random_state, restore_random_state

if TYPE_CHECKING:
    from rcc.learning.trainer import CompressionTrainer

Item = TypeVar("Item")
PROCESSES = "processes"


def asked_of(trainer: CompressionTrainer) -> dict[str, Any]:
    """What must be the same for a training to go on as it began, as plain data."""
    options = trainer.options
    asked = {name: value for name, value in asdict(options).items() if name not in options.free}
    plain: dict[str, Any] = json.loads(json.dumps(asked | trainer.identity))
    return plain | {PROCESSES: trainer.processes.count}


def state_of(trainer: CompressionTrainer) -> dict[str, Any]:
    """All that the next step depends on: 'tensors' by name, and 'state' as plain data (JSON)."""
    average, scaler, scheduler = trainer.average, trainer.scaler, trainer.scheduler
    parts = {
        "model": tensors_of(trainer.module),
        "optimiser": optimiser_tensors(trainer.optimizer, trainer.module),
        "average": {} if average is None else average.tensors(),
        "best": trainer.best.kept,
    }
    state = {
        "asked": asked_of(trainer),
        "standing": trainer.standing.to_json(),
        "best": [trainer.best.epoch, trainer.best.value],
        "schedule": None if scheduler is None else scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "averaged": 0 if average is None else average.steps,
        "callbacks": [callback.state_dict() for callback in trainer.callbacks],
        "random": random_state(),
    }
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    return {"tensors": tensors, "state": state}


def load_state(trainer: CompressionTrainer, state_dict: Mapping[str, Any]) -> None:
    """Go on from what `state_of` returned, by a trainer of the same model and options.

    Raises:
        UserError: it is of another training, of which every difference is said and nothing changed.
        LookupError, TypeError, ValueError, AttributeError, RuntimeError: no trainer wrote it.
    """
    state, average = state_dict["state"], trainer.average
    refuse_differences({PROCESSES: 1, **state["asked"]}, asked_of(trainer))
    parts = {part: under(f"{part}.", state_dict["tensors"]) for part in ("model", "optimiser", "average", "best")}
    ours, averaged = tensors_of(trainer.module), {} if average is None else average.tensors()
    refuse_others("model", parts["model"], ours)
    refuse_others("average", parts["average"], averaged)
    if parts["best"]:
        refuse_others("best", parts["best"], ours)
    trainer.loaded_schedule = state["schedule"]
    if trainer.scheduler is not None and trainer.loaded_schedule is not None:
        trainer.scheduler.load_state_dict(trainer.loaded_schedule)
    load_optimiser(trainer.optimizer, trainer.module, parts["optimiser"])
    copy_into(ours, parts["model"])
    if average is not None:
        average.load(parts["average"], state["averaged"])
    trainer.best.epoch, trainer.best.value = state["best"]
    trainer.best.kept = {name: tensor.to(ours[name].device) for name, tensor in parts["best"].items()}
    trainer.standing = Standing.read(state["standing"])
    if trainer.scaler is not None:
        trainer.scaler.load_state_dict(state["scaler"])
    for callback, kept in zip(trainer.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(kept)
    restore_random_state(state["random"])


def items_left(batches: Callable[[int], Iterable[Item]], number: int, standing: Standing) -> Iterator[Item]:
    """The batches of an epoch that were not trained on yet, counted as they are taken.

    Those before are made and dropped, under the random state that the epoch began with.
    """
    now = random_state() if standing.position else None
    if standing.epoch_random is None:
        standing.epoch_random = random_state()
    if now is not None:
        restore_random_state(standing.epoch_random)
    items = iter(batches(number))
    for _ in islice(items, standing.position):
        pass
    if now is not None:
        restore_random_state(now)
    for item in items:
        standing.position += 1
        yield item
