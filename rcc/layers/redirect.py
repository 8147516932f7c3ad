"""Run a copy of a network where a function calls the network itself.

A model's outputs may be given as a function that closes over its network: `lambda batch: net(batch["x"])[0]`, a bound
method, a global. A copy of the network beside it, with the dense weights, is then never called. Inside `standing_in`,
and only while the copy's `outputs` or `loss` run, every module of the network that is called or read from is replaced
by the copy's module of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from rcc.layers.model import Model

FUNCTIONS = ("outputs", "loss")


M = TypeVar("M", bound=Model)


class _Redirect:
    """From the modules of `root`, as they are now and as they will be replaced, to those of `copy`, by name."""

    def __init__(self, root: nn.Module, copy: nn.Module) -> None:
        self._root = root
        self._copies = dict(copy.named_modules(remove_duplicate=False))
        self._own = {id(module) for module in self._copies.values()}
        # Weak, because a replaced layer's weights must not stay in memory; and by object, because its id is used again.
        self._names: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()
        self._note_names()

    def _note_names(self) -> None:
        for name, module in self._root.named_modules():
            self._names.setdefault(module, name)

    def of(self, module: nn.Module) -> nn.Module:
        """The module to run instead of `module`: itself, if it is no part of the network."""
        if id(module) in self._own:
            return module
        if module not in self._names:  # a layer that was written since, or none of the network's
            self._note_names()
            self._names.setdefault(module, None)
        name = self._names[module]
        return module if name is None else self._copies.get(name, module)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            token = _active.set(self)
            try:
                return function(*args, **kwargs)
            finally:
                _active.reset(token)

        return wrapped


# A context variable and no global: each paused forward is a greenlet, which has a context of its own, so that the
# forwards of both models may be left and resumed in any order.
_active: ContextVar[_Redirect | None] = ContextVar("redirect", default=None)
_call = nn.Module.__call__
_getattr = nn.Module.__getattr__
_open = 0


def _redirected_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    redirect = _active.get()
    return _call(self if redirect is None else redirect.of(self), *args, **kwargs)


def _redirected_getattr(self: nn.Module, name: str) -> Any:
    redirect = _active.get()
    return _getattr(self if redirect is None else redirect.of(self), name)


@contextmanager
def standing_in(copy: M, root: nn.Module) -> Iterator[M]:
    """`copy`, whose `outputs` and `loss` run `copy.module` inside, also where they are functions that call `root`.

    Layers of `root` may be replaced meanwhile. `root` runs as it is whenever the functions of `copy` do not. A tensor
    that a function holds itself, and does not read from a module, is the network's own.

    Args:
        copy: a model of the same architecture whose modules have the names of `root`'s.
    """
    global _open
    redirect = _Redirect(root, copy.module)
    functions = [name for name in FUNCTIONS if callable(getattr(copy, name, None))]
    for name in functions:
        setattr(copy, name, redirect.wrap(getattr(copy, name)))
    # Of the class and not of the instances: layers that are written meanwhile are new objects.
    nn.Module.__call__, nn.Module.__getattr__ = _redirected_call, _redirected_getattr  # type: ignore[method-assign]
    _open += 1
    try:
        yield copy
    finally:
        _open -= 1
        if not _open:
            nn.Module.__call__, nn.Module.__getattr__ = _call, _getattr  # type: ignore[method-assign]
        for name in functions:
            delattr(copy, name)
