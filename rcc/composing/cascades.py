"""The grammar of `stage=`: names joined by '+', in any order, with repeats, each under a label of its own."""

from __future__ import annotations

from collections.abc import Iterable

from rcc.errors import UserError, unknown

GROUP = "stage"
SEPARATOR = "+"


def labelled(choice: str) -> list[tuple[str, str]]:
    """The (label, name) pairs of a choice, in order; a repeat is numbered.

    >>> labelled("dare+nullu+dare")
    [('dare', 'dare'), ('nullu', 'nullu'), ('dare_2', 'dare')]

    Raises:
        UserError: a name is empty.
    """
    names = choice.split(SEPARATOR)
    if not all(names):
        raise UserError(empty(choice))
    pairs: list[tuple[str, str]] = []
    taken: set[str] = set()
    for position, name in enumerate(names):
        number = names[: position + 1].count(name)
        label = name if number == 1 else f"{name}_{number}"
        while label in taken:
            number += 1
            label = f"{name}_{number}"
        taken.add(label)
        pairs.append((label, name))
    return pairs


def labels(choice: str) -> list[str]:
    """The labels of a choice, in the order in which the stages run."""
    return [label for label, _ in labelled(choice)]


def empty(choice: str) -> str:
    """What is wrong with a choice in which a name is empty."""
    what = "names no stage" if not choice else "has an empty name"
    return f"{GROUP}={choice} {what}. Join one or more names with '+', as in {GROUP}=dare+nullu+alpha."


def problems(choice: str, available: Iterable[str]) -> list[str]:
    """Everything that is wrong with a choice, given the stages that exist; empty when nothing is."""
    available = sorted(available)
    found = [] if all(choice.split(SEPARATOR)) else [f"{empty(choice)} Available: {', '.join(available)}."]
    names = dict.fromkeys(name for name in choice.split(SEPARATOR) if name)
    return found + [
        unknown("stage", name, available) + ("" if name == choice else f" (in {GROUP}={choice})")
        for name in names
        if name not in available
    ]
