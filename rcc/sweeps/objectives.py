"""Read what a search is for: objectives by name and direction, and constraints under which a trial is feasible."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcc.errors import Problems, UserError

DIRECTIONS = {"max": "maximize", "min": "minimize"}
ALWAYS = ("retention", "bytes")
"""Numbers that every compression has; evaluators of costs add others, such as latency."""
TARGET = "target"
"""The constraint of a run that has a target in bytes of its own."""
_CONSTRAINT = re.compile(r"\s*([\w./-]+)\s*(<=|>=)\s*([-+.\deE]+)\s*")


@dataclass(frozen=True)
class Objective:
    """A number of a trial that is to be large ('max') or small ('min')."""

    name: str
    way: str

    @property
    def direction(self) -> str:
        return DIRECTIONS[self.way]


@dataclass(frozen=True)
class Constraint:
    """A bound on a number of a trial."""

    name: str
    sign: str
    bound: float

    def excess(self, numbers: Mapping[str, float]) -> float:
        """By how much of the bound it is violated; ≤ 0 where it holds."""
        apart = numbers[self.name] - self.bound
        return (apart if self.sign == "<=" else -apart) / (abs(self.bound) or 1.0)


def read_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives of 'retention:max' and the like.

    Raises:
        UserError: one is not of that form, or there is none.
    """
    problems = Problems()
    found = []
    for text in texts:
        name, _, way = str(text).partition(":")
        if problems.check(
            bool(name) and way in DIRECTIONS,
            f"objectives: '{text}' is no objective; write <name>:max or <name>:min, as in [retention:max,bytes:min].",
        ):
            found.append(Objective(name, way))
    names = [objective.name for objective in found]
    problems.check(bool(texts), "objectives is empty; name one or more, as in [retention:max,bytes:min].")
    problems.check(len(names) == len(set(names)), f"objectives names one twice: {', '.join(names)}.")
    problems.done()
    return tuple(found)


def read_constraints(texts: Sequence[str]) -> tuple[Constraint, ...]:
    """Constraints of 'bytes<=300000' and the like.

    Raises:
        UserError: one is not of that form.
    """
    problems = Problems()
    found = []
    for text in texts:
        parts = _CONSTRAINT.fullmatch(str(text))
        try:
            bound = float(parts[3]) if parts else math.nan
        except ValueError:
            bound = math.nan
        if problems.check(
            parts is not None and math.isfinite(bound),
            f"constraints: '{text}' is no constraint; write <name><=<number> or <name>>=<number>, as in bytes<=300000.",
        ):
            assert parts is not None
            found.append(Constraint(parts[1], parts[2], bound))
    problems.done()
    return tuple(found)


def values_of(
    numbers: Mapping[str, float], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> list[float]:
    """The objectives of a trial, in order.

    Raises:
        UserError: the trial has no number of one of these names, so that none will have it.
    """
    asked = [*(each.name for each in objectives), *(each.name for each in constraints)]
    lacking = [name for name in dict.fromkeys(asked) if name not in numbers]
    if lacking:
        raise UserError(
            f"no trial measures {', '.join(lacking)}: there are {', '.join(numbers)}. What a model costs is"
            " measured with eval=<evaluator>+efficiency."
        )
    return [float(numbers[objective.name]) for objective in objectives]


def violations(
    numbers: Mapping[str, float], constraints: Sequence[Constraint], missed: bool = False, target: float | None = None
) -> dict[str, float]:
    """By how much each constraint is violated, ≤ 0 where it holds; `target` is that of the run's own, in bytes."""
    found = {f"{each.name}{each.sign}{each.bound:g}": each.excess(numbers) for each in constraints}
    if target is not None:
        found[TARGET] = max(numbers["bytes"] / target - 1, 1e-9) if missed else 0.0
    return found
