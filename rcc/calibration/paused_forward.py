"""A forward that waits at layers: one model on one batch, left in the middle and gone on with later.

Each is a greenlet that is switched to and back: a coroutine that may be left in code that knows nothing of it. Nothing
runs in parallel.
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

from rcc.layers.model import Batch, Model
from rcc.layers.units import Unit


@dataclass(frozen=True)
class Stop:
    name: str
    tensor: Tensor


class Forward(greenlet):
    """The forward of one model on one batch, which stops at units; `stop` is where it waits, None at the end."""

    def __init__(self, model: Model, batch: Batch) -> None:
        super().__init__(lambda: self._forward(model, batch))
        self.reached: set[str] = set()
        self.passed: set[str] = set()
        self.stop: Stop | None = None

    @staticmethod
    def _forward(model: Model, batch: Batch) -> None:
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
            this.parent.switch(Stop(name, tensor))


class DenseForward(Forward):
    """A forward that stops around units, and waits before them; or, of those in `passing`, with the output in hand."""

    def __init__(self, model: Model, batch: Batch, passing: Collection[str]) -> None:
        super().__init__(model, batch)
        self._passing = passing
        self._passed: Stop | None = None

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
def stopping_before(root: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
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
        Forward.stop_at(unit_name, input, before=True)
        now: Any = root.get_submodule(name)  # another module, if the unit was written while the forward waited
        return type(now).forward(now, input, *args, **kwargs)

    return forward


@contextmanager
def stopping_around(root: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
    """Inside, forwards stop at the calls of the units of `root`, with the input, and after them, with the output.

    Other hooks run in between: a module that is filled for its call is so at the second stop, and not at the first.
    """

    def before(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        Forward.stop_at(name, args[0] if args else next(iter(kwargs.values())), before=True)

    def after(name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        Forward.stop_at(name, output, before=False)

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
