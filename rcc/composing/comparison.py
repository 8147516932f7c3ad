"""Telling options that do not exist, and values of the wrong kind, from the shipped configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rcc.composing import joined
from rcc.errors import nearest


def compare(
    asked: Mapping[str, Any], shipped: Mapping[str, Any], choices: Mapping[str, str], where: str = ""
) -> Iterator[tuple[str, str]]:
    """The (path, problem) of every option that `shipped` lacks, lost, or holds another kind of value for.

    `choices` are those of the joined groups, `where` the path of both mappings.
    """
    for key, value in asked.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in shipped:
            yield path, _unknown_option(path, str(key), where, shipped, choices)
            continue
        default = shipped[key]
        if isinstance(default, dict) and isinstance(value, dict):
            yield from compare(value, default, choices, path)
            continue
        kind = _wrong_kind(value, default)
        if kind:
            yield path, f"{path} is {value!r}; it must be {kind}."
    for key in shipped:
        if key not in asked:
            path = f"{where}.{key}" if where else str(key)
            yield path, f"the option '{path}' was taken away; set it to a value instead."


def _unknown_option(path: str, key: str, where: str, shipped: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    siblings = [str(name) for name in shipped if not str(name).startswith("_")]
    if where in joined.GROUPS:
        close, labels = nearest(key, siblings), ", ".join(siblings)
        noun, choice = joined.GROUPS[where].noun, choices.get(where, "")
        return f"no {noun} is labelled '{key}' in {where}={choice}.{close} Labels: {labels}."
    level = f" in {where}" if where else ""
    if not siblings:
        return f"unknown option '{path}': the chosen {where} has none. Take another {where}=."
    return f"unknown option '{path}'.{nearest(key, siblings)} Available{level}: {', '.join(siblings)}."


def _wrong_kind(value: Any, default: Any) -> str:
    """What `value` should have been, judging by `default`; empty when it may stand.

    null is validated by the consumer of the option.
    """
    if isinstance(default, dict):
        return f"a set of options ({', '.join(map(str, default))})"
    if value is None or default is None or (isinstance(value, str) and "${" in value):
        return ""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(default, float):
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    if isinstance(default, list):
        return "" if isinstance(value, list) else "a list, as [a,b]"
    return "one word or text, not several values" if isinstance(value, dict | list) else ""
