"""Two models run side by side, layer by layer: the compressed one waits at each layer for the dense one's output.

A layer met this way may be changed on the spot: the forward that waits goes on through what was put there, so
that every later layer meets the inputs it will really see. One forward of each model is all that it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from torch import Tensor

from rcc.calibration.paused_forward import DenseForward, Forward, stopping_around, stopping_before
from rcc.errors import WorkError
from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating
from rcc.layers.units import Unit


@dataclass(frozen=True)
class Passage:
    """One batch at one unit: what is given to it in the compressed model, and what in the dense model.

    `dense_given` is None where the dense forward has passed the unit. `mask` (batch, length) is the batch's attention
    mask where it has one.
    """

    given: Tensor
    dense_given: Tensor | None
    mask: Tensor | None


class Meeting:
    """A unit before which every forward of both models waits, and their `passages`, batch by batch.

    `dense_unit` is the same unit of the dense model.
    """

    def __init__(self, unit: Unit, dense_unit: Unit, passages: list[Passage], dense: Sequence[DenseForward]) -> None:
        self.unit, self.dense_unit, self.passages = unit, dense_unit, passages
        self._dense = dense

    def outputs(self) -> Iterator[tuple[Passage, Tensor]]:
        """Each of `passages`, which leaves the list, with the dense model's output of the unit.

        Each is made when its turn comes, and then that forward goes on to where it waits next: who lets go of one
        before asking for the next holds the inner activations of one batch. While the output is looked at, the weight
        of `dense_unit` can be read, unless the forward has passed it.
        """
        for forward in self._dense:
            yield self.passages.pop(0), forward.output()
            forward.leave(self.unit.name)

    def end(self) -> None:
        """Take on the dense forwards whose output nobody asked for."""
        self.passages.clear()
        for forward in self._dense:
            forward.leave(self.unit.name)


def meetings(
    model: Model,
    dense: Model,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    passing: Collection[str] = (),
) -> Iterator[Meeting]:
    """Each of `units` in the order in which the model calls them, at its first call, with all batches at once.

    While the iterator waits, the unit's weight may be written; the forward goes on with the new one. Units that
    are not called on these batches do not come. What forwards need to go on is held in memory, of all batches: the
    inputs of one layer and the residual beside them, of both models.

    Args:
        model: the model whose units these are; put in evaluation mode for as long as the iterator lives.
        dense: another model of the same architecture, whose outputs are wanted.
        passing: names of units before which dense forwards do not wait: each holds the output instead, and waits
            before the next unit. For those whose inputs take more memory than their outputs.

    Raises:
        WorkError: the two models do not call the same units in the same order.
    """
    names = {unit.name: unit for unit in units}
    with ExitStack() as stack:
        for one in (model, dense):
            stack.enter_context(evaluating(one.module))
        stack.enter_context(stopping_before(model.module, units))
        stack.enter_context(stopping_around(dense.module, units))
        ours = [Forward(model, batch) for batch in batches]
        theirs = [DenseForward(dense, batch, passing) for batch in batches]
        for forward in (*ours, *theirs):
            stack.callback(forward.end)
            forward.go_on()
        while (name := _common_stop((*ours, *theirs))) is not None:
            unit = names[name]
            passages = [
                Passage(one.stop.tensor, other.given, batch.get("attention_mask"))
                for one, other, batch in zip(ours, theirs, batches, strict=True)
                if one.stop is not None
            ]
            meeting = Meeting(unit, replace(unit, root=dense.module), passages, theirs)
            yield meeting
            meeting.end()
            for forward in ours:
                forward.go_on()


@dataclass(frozen=True)
class Arrival:
    """One batch at one unit: what is given to it, and the batch's attention mask where it has one."""

    given: Tensor
    mask: Tensor | None


def arrivals(model: Model, units: Sequence[Unit], batches: Sequence[Batch]) -> Iterator[tuple[Unit, list[Arrival]]]:
    """As `meetings`, of one model by itself: one forward, and half of what is held.

    Raises:
        WorkError: the batches do not call the same units in the same order.
    """
    names = {unit.name: unit for unit in units}
    with ExitStack() as stack:
        stack.enter_context(evaluating(model.module))
        stack.enter_context(stopping_before(model.module, units))
        forwards = [Forward(model, batch) for batch in batches]
        for forward in forwards:
            stack.callback(forward.end)
            forward.go_on()
        while (name := _common_stop(forwards)) is not None:
            held = [
                Arrival(forward.stop.tensor, batch.get("attention_mask"))
                for forward, batch in zip(forwards, batches, strict=True)
                if forward.stop is not None
            ]
            yield names[name], held
            held.clear()
            for forward in forwards:
                forward.go_on()


def _common_stop(forwards: Sequence[Forward]) -> str | None:
    """The name of the unit at which all of them wait; None at their ends."""
    at = {forward.due for forward in forwards}
    if len(at) > 1:
        raise WorkError(
            "the forwards on the calibration batches, of the model and of the dense one, do not run the same layers in"
            f" the same order: {' and '.join(sorted(str(name) for name in at))} came at once. Batches of one kind only"
            " (images, texts, or both) go together."
        )
    return at.pop() if at else None
