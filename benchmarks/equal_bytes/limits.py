"""State what a row of the table is to reach, and say whether it was met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equal_bytes.figures import Figure

Rows = Mapping[str, Mapping[str, Figure]]
"""The figures of every method at one ratio."""


@dataclass(frozen=True)
class Limit:
    """A bound of one figure: `at_least` or `at_most` a value, or the values of other methods at the same bytes.

    `end` is what is compared: the 'value', or the 'low' or 'high' end of its interval.
    """

    figure: str
    sign: str
    value: float = 0.0
    than: tuple[str, ...] = ()
    end: str = "value"

    def met(self, method: str, rows: Rows) -> bool | None:
        """Whether the figures of `method` keep it; None where a row to compare with is missing."""
        number: float = getattr(rows[method][self.figure], self.end)
        if any(other not in rows for other in self.than):
            return None
        bounds = [rows[other][self.figure].value for other in self.than if other != method] or [self.value]
        # The bounds have few digits: a share of whole items that is equal to one must not fail by rounding.
        return all(number >= bound - 1e-9 if self.sign == "≥" else number <= bound + 1e-9 for bound in bounds)

    def told(self) -> str:
        name = self.figure if self.end == "value" else f"{self.figure} ({self.end} end)"
        return f"{name} {self.sign} {' and '.join(self.than) or f'{self.value:g}'}"


@dataclass(frozen=True)
class Goal:
    """What must and what should be reached at one ratio."""

    must: Sequence[Limit]
    aim: Sequence[Limit]


def at_least(figure: str, value: float) -> Limit:
    return Limit(figure, "≥", value)


def at_most(figure: str, value: float) -> Limit:
    return Limit(figure, "≤", value)


def no_worse_than(figure: str, *methods: str) -> Limit:
    """Of a figure that is better when lower: at most those of other methods."""
    return Limit(figure, "≤", than=methods)


def not_below_zero(figure: str) -> Limit:
    """A change for the worse is not shown: its interval reaches up to 0."""
    return Limit(figure, "≥", 0.0, end="high")


def verdict(limits: Sequence[Limit], method: str, rows: Rows) -> str:
    """'met' or 'missed' with the limits; of those missed only."""
    if not limits:
        return ""
    found = {limit: limit.met(method, rows) for limit in limits}
    missed = [limit.told() for limit, met in found.items() if met is False]
    if missed:
        return f"missed: {', '.join(missed)}"
    unknown = [limit.told() for limit, met in found.items() if met is None]
    return f"not decided: {', '.join(unknown)}" if unknown else f"met: {', '.join(limit.told() for limit in limits)}"
