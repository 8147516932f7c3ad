"""Describe what a sweep searches: one dimension an option, as plain data that a file can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from rcc.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Dimension:
    """The values of one option.

    Attributes:
        option: the dotted path or the group, as 'stage.dare.target_sparsity'.
        key: the same with Hydra's signs, as '++stage.dare.target_sparsity'.
        choices: the values, where they are listed; empty for an interval.
        low, high: the ends of an interval, both included; whole numbers where both are.
        log: whether an interval is searched by its logarithm.
    """

    option: str
    key: str
    choices: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    @property
    def is_group(self) -> bool:
        """Whether it chooses of a group, on which depends which options there are."""
        return "." not in self.option

    @property
    def distribution(self) -> BaseDistribution:
        """The same in Optuna's words."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of its values: those of a study's file may be anything."""
        if self.choices:
            return any(value == each and type(value) is type(each) for each in self.choices)
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return type(value) in ((int,) if whole else (int, float)) and self.low <= value <= self.high

    @property
    def middle(self) -> Value:
        """The value in the middle of an interval, by its logarithm where it is searched by that; the first choice."""
        if self.choices:
            return self.choices[0]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(middle) if isinstance(self.low, int) and isinstance(self.high, int) else middle

    def setting(self, value: Value) -> str:
        """The argument that gives it a value."""
        return f"{self.key}={'null' if value is None else value}"


def in_order(space: list[Dimension]) -> list[Dimension]:
    """Groups before options, which may depend on them; else as declared."""
    return sorted(space, key=lambda dimension: not dimension.is_group)


def every_point(space: list[Dimension]) -> Iterator[dict[str, Value]]:
    """The points of a grid, the last dimension varying fastest.

    Raises:
        UserError: a dimension is an interval, which has no end of points.
    """
    endless = [dimension.option for dimension in space if not dimension.choices]
    if endless:
        raise UserError(
            f"{', '.join(endless)} is an interval: a grid takes values one by one. Name them, as in a,b,c or"
            " range(start,stop,step), or search with hydra/sweeper=pareto and another sampler."
        )
    for values in product(*(dimension.choices for dimension in space)):
        yield {dimension.option: value for dimension, value in zip(space, values, strict=True)}
