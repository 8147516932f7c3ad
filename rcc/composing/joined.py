"""Parse groups whose choices are joined by '+': `stage=dare+nullu`, `eval=zero_shot+efficiency`.

Each name gets a label of its own, under which its options lie: `stage.dare.target_sparsity`. The order counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rcc.errors import UserError, unknown

SEPARATOR = "+"


@dataclass(frozen=True)
class Joined:
    """A group whose choices may be joined: what one choice is called, an example, what the order means, and whether
    a name may come again."""

    group: str
    noun: str
    example: str
    order: str
    repeats: bool


GROUPS = {
    joined.group: joined
    for joined in (
        Joined("stage", "stage", "dare+nullu+alpha", "in the order in which they run", repeats=True),
        Joined("eval", "evaluator", "zero_shot+efficiency", "the first with the metric of the gate", repeats=False),
        Joined("logger", "logger", "wandb+csv", "each is told of everything", repeats=False),
    )
}


def names(choice: str) -> list[str]:
    """The names of a choice, in order, without those that are empty."""
    return [name for name in choice.split(SEPARATOR) if name]


def labelled(group: str, choice: str) -> list[tuple[str, str]]:
    """The (label, name) pairs of a choice, in order; a repeat is numbered.

    >>> labelled("stage", "dare+nullu+dare")
    [('dare', 'dare'), ('nullu', 'nullu'), ('dare_2', 'dare')]

    Raises:
        UserError: a name is empty, or comes again where it may not.
    """
    every = choice.split(SEPARATOR)
    wrong = _misspelt(group, choice)
    if wrong:
        raise UserError(*wrong)
    pairs: list[tuple[str, str]] = []
    taken: set[str] = set()
    for position, name in enumerate(every):
        number = every[: position + 1].count(name)
        label = name if number == 1 else f"{name}_{number}"
        while label in taken:
            number += 1
            label = f"{name}_{number}"
        taken.add(label)
        pairs.append((label, name))
    return pairs


def labels(group: str, choice: str) -> list[str]:
    """The labels of a choice, in its order."""
    return [label for label, _ in labelled(group, choice)]


def empty(group: str, choice: str) -> str:
    """What is wrong with a choice in which a name is empty."""
    what = f"names no {GROUPS[group].noun}" if not choice else "has an empty name"
    return f"{group}={choice} {what}. Join one or more names with '+', as in {group}={GROUPS[group].example}."


def problems(group: str, choice: str, available: Iterable[str]) -> list[str]:
    """Everything that is wrong with a choice, given the names that exist; empty when nothing is."""
    available = sorted(available)
    found = [
        f"{problem} Available: {', '.join(available)}." if not all(choice.split(SEPARATOR)) else problem
        for problem in _misspelt(group, choice)
    ]
    return found + [
        unknown(GROUPS[group].noun, name, available) + ("" if name == choice else f" (in {group}={choice})")
        for name in dict.fromkeys(names(choice))
        if name not in available
    ]


def sound(group: str, choice: str, available: Iterable[str]) -> str:
    """The choice without what is wrong with it, to go on checking the rest; empty when nothing is left."""
    kept = [name for name in names(choice) if name in available]
    return SEPARATOR.join(kept if GROUPS[group].repeats else dict.fromkeys(kept))


def _misspelt(group: str, choice: str) -> list[str]:
    """What is wrong with a choice whatever names there are."""
    found = [] if all(choice.split(SEPARATOR)) else [empty(group, choice)]
    every = names(choice)
    again = [name for name in dict.fromkeys(every) if every.count(name) > 1]
    if again and not GROUPS[group].repeats:
        told = " and ".join(f"'{name}'" for name in again)
        found.append(f"{group}={choice} names {told} more than once; name each {GROUPS[group].noun} once.")
    return found
