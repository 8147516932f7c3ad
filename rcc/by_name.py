"""Import what a config names, from a table of 'module:attribute'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from typing import Any

from rcc.errors import Problems, UserError, unknown


def find(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """What `table` has under `name`.

    Raises:
        UserError: nothing of that name; the message lists what there is.
    """
    if name not in table:
        raise UserError(unknown(kind, name, table))
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def call(kind: str, name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """`factory(**options)`, with every unknown option refused by name before it is called.

    Raises:
        UserError: the options that `factory` does not take, with the nearest it does.
    """
    problems = Problems(f"{kind} '{name}'")
    for option in options:
        problems.choice("option", option, signature(factory).parameters)
    problems.done()
    return factory(**options)
