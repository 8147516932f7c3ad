"""Rounds: the whole cascade is applied again and again, each time with a larger share of every stage's target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcc.cascade.records import Step
from rcc.errors import Problems
from rcc.ops.curves import CURVES, share
from rcc.stages.base import Stage


@dataclass(frozen=True)
class Schedule:
    """`rounds` passes over the cascade; `curve` gives the share of the target asked for in each.

    The last round always asks for the whole target. One round is the one-shot cascade.
    """

    rounds: int = 1
    curve: str = "linear"

    def __post_init__(self) -> None:
        problems = Problems("schedule")
        problems.check(
            isinstance(self.rounds, int) and self.rounds >= 1, f"rounds is {self.rounds}; it must be 1 or more."
        )
        problems.choice("curve", self.curve, CURVES)
        problems.done()

    def steps(self, stages: Sequence[Stage]) -> list[Step]:
        """Every step of the run in order: round after round, stage after stage, with its strength."""
        return [
            Step(
                index=(number - 1) * len(stages) + position,
                round=number,
                rounds=self.rounds,
                label=stage.label,
                method=stage.method,
                strength=None
                if stage.strength is None
                else stage.strength * share(self.curve, number - 1, self.rounds),
                option=f"stage.{stage.label}.{stage.strength_option}" if stage.strength_option else "",
            )
            for number in range(1, self.rounds + 1)
            for position, stage in enumerate(stages, 1)
        ]
