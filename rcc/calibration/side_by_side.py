"""Run two models side by side, layer by layer: the compressed one waits at each layer for the dense one's output.

A layer may be written while the forwards wait before it: they go on through what was put there, so that every later
layer sees the inputs that it will really have. One forward of each model solves all layers, after one that only
records the order of calls (`rcc.calibration.call_order`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from torch import Tensor

from rcc.calibration.call_order import call_order, calls_of
from rcc.calibration.paused_forward import DenseForward, PausedForward, pausing_around, pausing_before
from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating
from rcc.layers.padding import mask_of
from rcc.layers.units import Unit


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: what is given to it in the compressed model, and what in the dense model.

    dense_given: None where the dense forward has run through the layer, or where there is no dense model.
    mask: (batch, length), the batch's attention mask where it has one.
    """

    given: Tensor
    dense_given: Tensor | None
    mask: Tensor | None


class LayerVisit:
    """A unit before which the forwards of all batches that reach it wait.

    unit, dense_unit: the unit in the compressed and in the dense model.
    calls: one for each batch, at the layer's only call. Empty where the layer is `repeated`: some batch calls it again,
        with inputs that depend on its own output or on other layers', so that all its calls are run anew instead.
    """

    def __init__(
        self,
        unit: Unit,
        ours: Sequence[PausedForward],
        theirs: Sequence[DenseForward],
        models: tuple[Model, Model | None],
        repeated: bool,
    ) -> None:
        self._model, self._dense = models
        self.unit = unit
        self.dense_unit = unit if self._dense is None else replace(unit, root=self._dense.module)
        self.repeated = repeated
        self._ours, self._theirs = ours, theirs
        given = [forward.given for forward in theirs] if theirs else [None] * len(ours)
        self.calls = [
            LayerCall(forward.pause.tensor, other, mask_of(forward.batch))
            for forward, other in zip(ours, given, strict=True)
            if forward.pause is not None and not repeated
        ]

    def inputs(self) -> Iterator[LayerCall]:
        """Every call of the layer by every batch."""
        if not self.repeated:
            yield from self.calls
            return
        for forward in self._ours:
            for call in calls_of(self._model, self.unit, forward.batch):
                yield LayerCall(call.given, None, mask_of(forward.batch))

    def outputs(self) -> Iterator[tuple[LayerCall, Tensor]]:
        """Every call with the dense model's output of it.

        Each is made when its turn comes. `calls` empties on the way, and the dense forward goes on to where it waits
        next: who lets go of one before asking for the next holds the inner activations of one batch. While the
        output of a call that is not repeated is looked at, the weight of `dense_unit` can be read, unless the forward
        has run through it.
        """
        if self.repeated:
            yield from self._repeated_outputs()
            return
        for forward in self._theirs:
            yield self.calls.pop(0), forward.output()
            forward.finish_layer(self.unit.name)

    def _repeated_outputs(self) -> Iterator[tuple[LayerCall, Tensor]]:
        """All calls, batch by batch, by a forward of each model: the compressed one as it is before the layer is
        written."""
        assert self._dense is not None
        for forward in self._ours:
            wanted = calls_of(self._dense, self.dense_unit, forward.batch)
            for ours, theirs in zip(calls_of(self._model, self.unit, forward.batch), wanted, strict=False):
                yield LayerCall(ours.given, theirs.given, mask_of(forward.batch)), theirs.output

    def finish(self) -> None:
        """Let all forwards run on past the layer, through what has become of it."""
        self.calls.clear()
        for forward in (*self._theirs, *self._ours):
            forward.finish_layer(self.unit.name)


def layer_visits(
    model: Model,
    dense: Model | None,
    units: Sequence[Unit],
    batches: Sequence[Batch],
    passing: Collection[str] = (),
) -> Iterator[LayerVisit]:
    """Each of `units` in the order in which the model calls them, with all batches that reach it at once.

    While the iterator waits, the unit's weight may be written; the forwards go on with the new one. Units that no batch
    calls do not come. What forwards need to go on is held in memory, of all batches: the inputs of one layer and the
    residual beside them, of both models.

    Where a network chooses its layers by its inputs, a batch counts at the layers that it reaches in both models; one
    that is sent another way than it was recorded, because a layer before was changed, passes layers that are done.

    Args:
        model: the model whose units these are; put in evaluation mode for as long as the iterator lives.
        dense: another model of the same architecture, whose outputs are wanted; None where none are.
        passing: names of units before which dense forwards do not wait: each holds the output instead, and waits
            before the next unit. For those whose inputs take more memory than their outputs.

    Raises:
        WorkError: the batches call the same layers in opposite orders.
    """
    names = {unit.name: unit for unit in units}
    with ExitStack() as stack:
        for one in (model, dense):
            if one is not None:
                stack.enter_context(evaluating(one.module))
        order = call_order(model, units, batches)
        stack.enter_context(pausing_before(units))
        ours = [PausedForward(model, batch) for batch in batches]
        theirs: list[DenseForward] = []
        if dense is not None:
            stack.enter_context(pausing_around([replace(unit, root=dense.module) for unit in units]))
            # A layer whose calls are run anew must be met before its first, in both models.
            passed = set(passing) - order.repeated
            theirs = [DenseForward(dense, batch, passed) for batch in batches]
        for forward in (*ours, *theirs):
            stack.callback(forward.close)
            forward.resume()
        places = {name: place for place, name in enumerate(order.names)}
        for place, name in enumerate(order.names):
            here = [
                index
                for index, forward in enumerate(ours)
                if forward.due == name and (not theirs or theirs[index].due == name)
            ]
            if here:
                visit = LayerVisit(
                    names[name],
                    [ours[index] for index in here],
                    [theirs[index] for index in here] if theirs else [],
                    (model, dense),
                    name in order.repeated,
                )
                yield visit
                visit.finish()
            for forward in (*theirs, *ours):
                _catch_up(forward, place, places)


def _catch_up(forward: PausedForward, place: int, places: Mapping[str, int]) -> None:
    """Run a forward past units whose turn is over, or never comes."""
    while (due := forward.due) is not None and places.get(due, -1) <= place:
        forward.finish_layer(due)
