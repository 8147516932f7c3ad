"""Check the values of options against the annotations of what takes them, before a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "one word or text",
    NoneType: "null",
}


def hints_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each parameter of a class's constructor or of a function; of those that can be read."""
    try:
        return get_type_hints(getattr(factory, "__init__") if isinstance(factory, type) else factory)  # noqa: B009
    except (NameError, TypeError):
        return {}


def fits(value: object, hint: Any) -> bool:
    """Whether a value of a config may stand where `hint` is annotated. What the hint does not say is not judged."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if hint in (bool, str, NoneType):
        return isinstance(value, hint)
    if hint is Path:
        return isinstance(value, str | Path)
    kind = origin or hint
    if not isinstance(kind, type) or kind is object:
        return True
    if issubclass(kind, Mapping):
        inner = arguments[1] if len(arguments) == 2 else Any
        return isinstance(value, Mapping) and all(fits(each, inner) for each in value.values())
    if issubclass(kind, Sequence):
        inner = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(fits(each, inner) for each in value)
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that says nothing at run time
        return True


def wanted(hint: Any) -> str:
    """How a message calls what `hint` allows, as 'a whole number or null'."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        # Paths are texts, and null comes last.
        told = dict.fromkeys(wanted(each) for each in sorted(arguments, key=lambda each: each is NoneType))
        return " or ".join(told)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if hint is Path:
        return WORDS[str]
    if hint in WORDS:
        return WORDS[hint]
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping, as {a: 1}" if len(arguments) != 2 else f"a mapping to {_each(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return f"a list of {_each(arguments[0])}" if arguments else "a list"
    return str(hint)


def _each(hint: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}.get(hint, "values")
