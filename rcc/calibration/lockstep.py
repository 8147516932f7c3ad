"""Two models run side by side, layer by layer: the compressed one waits at each layer for the dense one's output.

A layer met this way may be changed on the spot: the forward that waits goes on through what was put there, so
that every later layer meets the inputs it will really see. One forward of each model is all that it takes.

Each forward, of one model on one batch, is a greenlet that is switched to and back: a coroutine that may be
left in the middle of code that knows nothing of it. Nothing runs in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from rcc.calibration.modes import evaluating
from rcc.calibration.row_fit import Answering, Batch
from rcc.errors import WorkError
from rcc.layers.units import Unit


@dataclass(frozen=True)
class Passage:
    """One batch at one unit: the compressed model's input, and the dense model's output of the same unit.

    `mask` (batch, length) is the batch's attention mask where it has one.
    """

    given: Tensor
    wanted: Tensor
    mask: Tensor | None


def meetings(
    model: Answering, dense: Answering, units: Sequence[Unit], batches: Sequence[Batch]
) -> Iterator[tuple[Unit, list[Passage]]]:
    """Each of `units` in the order in which the model calls them, at its first call, with all batches at once.

    While the iterator waits, the unit's weight may be written; the forward goes on with the new one. Units that
    are not called on these batches do not come. Activations of one layer, of all batches, are held in memory.

    Args:
        model: the model whose units these are; put in evaluation mode for as long as the iterator lives.
        dense: another model of the same architecture, whose outputs are wanted.

    Raises:
        WorkError: the two models do not call the same units in the same order.
    """
    names = {unit.name: unit for unit in units}
    with ExitStack() as stack:
        for one in (model, dense):
            stack.enter_context(evaluating(one.module))
        stack.enter_context(_stopping(model.module, units, before=True))
        stack.enter_context(_stopping(dense.module, units, before=False))
        forwards = [(_Forward(model, batch), _Forward(dense, batch)) for batch in batches]
        for pair in forwards:
            for forward in pair:
                stack.callback(forward.end)
        while True:
            stops = [(ours.go_on(), theirs.go_on()) for ours, theirs in forwards]
            at = {stop and stop.name for pair in stops for stop in pair}
            if at == {None} or not stops:
                return
            if len(at) > 1:
                raise WorkError(
                    "the model and the dense model do not run the same layers in the same order on the calibration"
                    f" batches: {' and '.join(sorted(str(name) for name in at))} came at once. Batches of one kind"
                    " only (images, texts, or both) go together."
                )
            (name,) = at
            passages = [
                Passage(ours.tensor, theirs.tensor, batch.get("attention_mask"))
                for (ours, theirs), batch in zip(stops, batches, strict=True)
                if ours is not None and theirs is not None
            ]
            del stops
            yield names[str(name)], passages


@dataclass(frozen=True)
class _Stop:
    name: str
    tensor: Tensor


class _Forward(greenlet):
    """The forward of one model on one batch, which stops at units."""

    def __init__(self, model: Answering, batch: Batch) -> None:
        super().__init__(lambda: self._forward(model, batch))
        self.passed: set[str] = set()

    @staticmethod
    def _forward(model: Answering, batch: Batch) -> None:
        model.outputs(batch)

    def go_on(self) -> _Stop | None:
        """Run to the next stop; None at the end."""
        if self.dead:
            return None
        self.parent = getcurrent()
        with torch.no_grad():
            stop: _Stop | None = self.switch()
        return stop

    def end(self) -> None:
        """Leave the forward where it is."""
        if not self.dead:
            self.parent = getcurrent()
            self.throw()


@contextmanager
def _stopping(root: nn.Module, units: Sequence[Unit], before: bool) -> Iterator[None]:
    """Inside, forwards stop at the units of `root`: before a unit with its input, or after it with its output."""
    own: list[nn.Module] = []
    for unit in units:
        for name in (unit.name, *unit.tied):
            module = root.get_submodule(name)
            if "forward" not in module.__dict__:
                module.forward = _forward_with_stop(root, name, unit.name, before)  # type: ignore[method-assign]
                own.append(module)
    try:
        yield
    finally:
        for module in own:
            module.__dict__.pop("forward", None)


def _forward_with_stop(root: nn.Module, name: str, unit_name: str, before: bool) -> Callable[..., Any]:
    def forward(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        this = getcurrent()
        stops = isinstance(this, _Forward) and unit_name not in this.passed
        if stops:
            this.passed.add(unit_name)
            if before:
                this.parent.switch(_Stop(unit_name, input))
        now: Any = root.get_submodule(name)  # another module, if the unit was written while the forward waited
        output = type(now).forward(now, input, *args, **kwargs)
        if stops and not before:
            this.parent.switch(_Stop(unit_name, output))
        return output

    return forward
