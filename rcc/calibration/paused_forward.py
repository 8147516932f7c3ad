"""Pause a forward pass at chosen layers and resume it later, as a coroutine.

Each pass is a greenlet, switched to and back: a coroutine that can be suspended inside code that knows nothing of
coroutines, such as the forward of a model of transformers. Nothing runs in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from rcc.calibration.call_order import first_input
from rcc.layers.model import Batch, Model
from rcc.layers.units import Unit


@dataclass(frozen=True)
class Pause:
    """A suspended forward's place, the unit `name`, with the unit's input, or its output, in hand."""

    name: str
    tensor: Tensor


class PausedForward(greenlet):
    """The forward of one model on one batch, suspended before each unit's first call.

    pause: where it is suspended; None at its end.
    """

    def __init__(self, model: Model, batch: Batch) -> None:
        super().__init__(lambda: self._forward(model, batch))
        self.batch = batch
        self.entered: set[str] = set()
        self.left: set[str] = set()
        self.pause: Pause | None = None

    @staticmethod
    def _forward(model: Model, batch: Batch) -> None:
        model.outputs(batch)

    @property
    def due(self) -> str | None:
        """The name of the unit before which it waits; None at the end."""
        return None if self.pause is None else self.pause.name

    def resume(self) -> None:
        """Run to the next pause."""
        self.pause = None
        if not self.dead:
            # Whoever resumes is switched back to, also where that is not who made the greenlet.
            self.parent = getcurrent()
            # Grad mode is the thread's, not the greenlet's: it would leak from one into the other.
            with torch.no_grad():
                self.pause = self.switch()

    def finish_layer(self, name: str) -> None:
        """Run on past the unit `name`, if it waits there."""
        while self.due == name:
            self.resume()

    def close(self) -> None:
        """End the forward where it is; its `finally` blocks run."""
        if not self.dead:
            self.parent = getcurrent()
            self.throw()

    @classmethod
    def pause_at(cls, name: str, tensor: Tensor, before: bool) -> None:
        """Suspend the running forward, if it is one of these, the first time that it enters (or leaves) the unit."""
        this = getcurrent()
        if isinstance(this, cls) and name not in (seen := this.entered if before else this.left):
            seen.add(name)
            this.parent.switch(Pause(name, tensor))


class DenseForward(PausedForward):
    """A forward suspended on both sides of each unit: before it, with its input, and after it, with its output.

    passing: units before which it does not wait. It runs through them, keeps the output, and waits before the next
    unit: less is held where a layer's input takes more memory than its output.
    """

    def __init__(self, model: Model, batch: Batch, passing: Collection[str]) -> None:
        super().__init__(model, batch)
        self._passing = passing
        self._passed: Pause | None = None

    @property
    def due(self) -> str | None:
        return super().due if self._passed is None else self._passed.name

    @property
    def given(self) -> Tensor | None:
        """The input of the unit that is due; None where the forward has run through it."""
        return self.pause.tensor if self.pause is not None and self._passed is None else None

    def output(self) -> Tensor:
        """The output of the unit that is due."""
        if self._passed is not None:
            return self._passed.tensor
        super().resume()
        assert self.pause is not None
        return self.pause.tensor

    def finish_layer(self, name: str) -> None:
        if self._passed is not None and self._passed.name == name:
            self._passed = None
            self._pass()
        super().finish_layer(name)

    def resume(self) -> None:
        super().resume()
        self._pass()

    def _pass(self) -> None:
        if self._passed is None and self.pause is not None and self.pause.name in self._passing:
            super().resume()  # to behind the unit, whose output is then in hand
            self._passed = self.pause
            super().resume()  # to before the next


@contextmanager
def pausing_before(units: Sequence[Unit]) -> Iterator[None]:
    """Inside, forwards pause before the units, which may be written while they wait.

    The module's own `forward` is what pauses, and no hook: a hook of the model's that changes the input has then run,
    so that the tensor in hand is the one that the weight is multiplied with.
    """
    own: list[nn.Module] = []
    for unit in units:
        for module in unit.modules():
            module.forward = _pausing_forward(module, unit.name)  # type: ignore[method-assign]
            own.append(module)
    try:
        yield
    finally:
        for module in own:
            module.__dict__.pop("forward", None)


def _pausing_forward(module: Any, name: str) -> Callable[..., Any]:
    def forward(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        PausedForward.pause_at(name, input, before=True)
        # The forward of its class as it is now: another one, if the unit was written while the forward waited.
        return type(module).forward(module, input, *args, **kwargs)

    return forward


@contextmanager
def pausing_around(units: Sequence[Unit]) -> Iterator[None]:
    """Inside, forwards pause before the calls of the units, with the input, and after, with the output.

    Other hooks run in between: a module whose weight is read from disk for its call holds it at the second pause, and
    not at the first.
    """

    def before(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        PausedForward.pause_at(name, first_input(args, kwargs), before=True)

    def after(name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        PausedForward.pause_at(name, output, before=False)

    with ExitStack() as hooks:
        for unit in units:
            for module in unit.modules():
                call = module.register_forward_pre_hook(partial(before, unit.name), prepend=True, with_kwargs=True)
                hooks.callback(call.remove)
                hooks.callback(module.register_forward_hook(partial(after, unit.name), prepend=True).remove)
        yield
