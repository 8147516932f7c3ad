"""Data sets by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any

from rcc.data.splits import Splits
from rcc.errors import Problems, UserError, unknown

LOADERS = {"digits": "rcc.data.digits:load_digits"}


def load_data(name: str, **options: Any) -> Splits:
    """The splits of the data set `name`, with the options of its loader.

    Raises:
        UserError: an unknown name or option, or an option the loader refuses.
    """
    if name not in LOADERS:
        raise UserError(unknown("data", name, LOADERS))
    module, _, function = LOADERS[name].partition(":")
    loader = getattr(import_module(module), function)
    problems = Problems(f"data '{name}'")
    for option in options:
        problems.choice("option", option, signature(loader).parameters)
    problems.done()
    splits: Splits = loader(**options)
    return splits
