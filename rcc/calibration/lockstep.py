"""Two models run side by side, layer by layer: the compressed one waits at each layer for the dense one's output.

A layer met this way may be changed on the spot: the forward that waits goes on through what was put there, so
that every later layer meets the inputs it will really see. One forward of each model is all that it takes.

Each forward, of one model on one batch, is a greenlet that is switched to and back: a coroutine that may be
left in the middle of code that knows nothing of it. Nothing runs in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
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

    def __init__(self, unit: Unit, dense_unit: Unit, passages: list[Passage], dense: Sequence[_DenseForward]) -> None:
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
    model: Answering,
    dense: Answering,
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
        stack.enter_context(_stopping_before(model.module, units))
        stack.enter_context(_stopping_around(dense.module, units))
        ours = [_Forward(model, batch) for batch in batches]
        theirs = [_DenseForward(dense, batch, passing) for batch in batches]
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


def arrivals(model: Answering, units: Sequence[Unit], batches: Sequence[Batch]) -> Iterator[tuple[Unit, list[Arrival]]]:
    """As `meetings`, of one model by itself: one forward, and half of what is held.

    Raises:
        WorkError: the batches do not call the same units in the same order.
    """
    names = {unit.name: unit for unit in units}
    with ExitStack() as stack:
        stack.enter_context(evaluating(model.module))
        stack.enter_context(_stopping_before(model.module, units))
        forwards = [_Forward(model, batch) for batch in batches]
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


def _common_stop(forwards: Sequence[_Forward]) -> str | None:
    """The name of the unit at which all of them wait; None at their ends."""
    at = {forward.due for forward in forwards}
    if len(at) > 1:
        raise WorkError(
            "the forwards on the calibration batches, of the model and of the dense one, do not run the same layers in"
            f" the same order: {' and '.join(sorted(str(name) for name in at))} came at once. Batches of one kind only"
            " (images, texts, or both) go together."
        )
    return at.pop() if at else None


@dataclass(frozen=True)
class _Stop:
    name: str
    tensor: Tensor


class _Forward(greenlet):
    """The forward of one model on one batch, which stops at units; `stop` is where it waits, None at the end."""

    def __init__(self, model: Answering, batch: Batch) -> None:
        super().__init__(lambda: self._forward(model, batch))
        self.reached: set[str] = set()
        self.passed: set[str] = set()
        self.stop: _Stop | None = None

    @staticmethod
    def _forward(model: Answering, batch: Batch) -> None:
        model.outputs(batch)

    @property
    def due(self) -> str | None:
        """The name of the unit that it waits for; None at the end."""
        return None if self.stop is None else self.stop.name

    def go_on(self) -> None:
        """Run to the next stop."""
        self.stop = None
        if not self.dead:
            self.parent = getcurrent()
            with torch.no_grad():
                self.stop = self.switch()

    def end(self) -> None:
        """Leave the forward where it is."""
        if not self.dead:
            self.parent = getcurrent()
            self.throw()

    @classmethod
    def stop_at(cls, name: str, tensor: Tensor, before: bool) -> None:
        """Where a forward comes to the unit `name`, or out of it, for the first time, it waits there."""
        this = getcurrent()
        if isinstance(this, cls) and name not in (seen := this.reached if before else this.passed):
            seen.add(name)
            this.parent.switch(_Stop(name, tensor))


class _DenseForward(_Forward):
    """A forward that stops around units, and waits before them; or, of those in `passing`, with the output in hand."""

    def __init__(self, model: Answering, batch: Batch, passing: Collection[str]) -> None:
        super().__init__(model, batch)
        self._passing = passing
        self._passed: _Stop | None = None

    @property
    def due(self) -> str | None:
        return super().due if self._passed is None else self._passed.name

    @property
    def given(self) -> Tensor | None:
        """The input of the unit that is due, unless that was passed."""
        return self.stop.tensor if self.stop is not None and self._passed is None else None

    def output(self) -> Tensor:
        """That of the unit that is due."""
        if self._passed is not None:
            return self._passed.tensor
        super().go_on()
        assert self.stop is not None
        return self.stop.tensor

    def leave(self, name: str) -> None:
        """Be done with the unit `name`, if that is due."""
        if self._passed is not None and self._passed.name == name:
            self._passed = None
            self._pass()
        while self.due == name:
            self.go_on()

    def go_on(self) -> None:
        super().go_on()
        self._pass()

    def _pass(self) -> None:
        if self._passed is None and self.stop is not None and self.stop.name in self._passing:
            super().go_on()
            self._passed = self.stop
            super().go_on()


@contextmanager
def _stopping_before(root: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
    """Inside, forwards stop before the units of `root`, whose modules may be replaced while they wait."""
    own: list[nn.Module] = []
    for unit, name, module in _modules(root, units):
        module.forward = _forward_with_stop(root, name, unit.name)  # type: ignore[method-assign]
        own.append(module)
    try:
        yield
    finally:
        for module in own:
            module.__dict__.pop("forward", None)


def _forward_with_stop(root: nn.Module, name: str, unit_name: str) -> Callable[..., Any]:
    def forward(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        _Forward.stop_at(unit_name, input, before=True)
        now: Any = root.get_submodule(name)  # another module, if the unit was written while the forward waited
        return type(now).forward(now, input, *args, **kwargs)

    return forward


@contextmanager
def _stopping_around(root: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
    """Inside, forwards stop at the calls of the units of `root`, with the input, and after them, with the output.

    Other hooks run in between: a module that is filled for its call is so at the second stop, and not at the first.
    """

    def before(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _Forward.stop_at(name, args[0] if args else next(iter(kwargs.values())), before=True)

    def after(name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        _Forward.stop_at(name, output, before=False)

    with ExitStack() as hooks:
        for unit, _, module in _modules(root, units):
            call = module.register_forward_pre_hook(partial(before, unit.name), prepend=True, with_kwargs=True)
            hooks.callback(call.remove)
            hooks.callback(module.register_forward_hook(partial(after, unit.name), prepend=True).remove)
        yield


def _modules(root: nn.Module, units: Sequence[Unit]) -> Iterator[tuple[Unit, str, nn.Module]]:
    """The modules of the units, each once, with the first name it has."""
    seen: set[int] = set()
    for unit in units:
        for name in (unit.name, *unit.tied):
            module = root.get_submodule(name)
            if id(module) not in seen:
                seen.add(id(module))
                yield unit, name, module
