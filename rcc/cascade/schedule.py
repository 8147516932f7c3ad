"""Schedule rounds: the whole cascade is applied repeatedly, with a growing share of every stage's target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcc.cascade.records import Step
from rcc.errors import Problems
from rcc.ops.curves import CURVES, share
from rcc.stages.base import Stage

GEOMETRIC = "geometric"
"""The curve by which every round keeps the same share of what the round before kept."""

MOST_ROUNDS = 1000
"""Every step is planned, told and recorded by itself; nobody reads more."""


@dataclass(frozen=True)
class Schedule:
    """`rounds` passes over the cascade; `curve` gives the share of the target asked for in each.

    The last round always asks for the whole target. One round is the one-shot cascade; there are at most 1000.
    """

    rounds: int = 1
    curve: str = "linear"

    def __post_init__(self) -> None:
        problems = Problems("schedule")
        problems.whole("rounds", self.rounds, 1, MOST_ROUNDS)
        problems.choice("curve", self.curve, (*CURVES, GEOMETRIC))
        problems.done()

    def steps(self, stages: Sequence[Stage], solved: Sequence[Stage] = ()) -> list[Step]:
        """Every step of the run in order: round after round, stage after stage, with its strength.

        A stage that runs once, as quantisation does, runs in the last round. Those of `solved` are None: a
        target in bytes decides them on the way.
        """
        open_ = {stage.label for stage in solved}
        rounds = range(1, self.rounds + 1)
        runs = [(number, stage) for number in rounds for stage in stages if number == self.rounds or not stage.once]
        return [
            Step(
                index=index,
                round=number,
                rounds=self.rounds,
                label=stage.label,
                method=stage.method,
                strength=(
                    None if stage.strength is None or stage.label in open_ else self._strength(stage.strength, number)
                ),
                option=(
                    f"stage.{stage.label}.{stage.strength_option}"
                    if stage.strength_option and stage.label not in open_
                    else ""
                ),
            )
            for index, (number, stage) in enumerate(runs, 1)
        ]

    def _strength(self, whole: float, number: int) -> float:
        if number == self.rounds:
            return whole
        if self.curve == GEOMETRIC:
            return 1 - (1 - whole) ** (number / self.rounds)
        return whole * share(self.curve, number - 1, self.rounds)


def order_problems(stages: Sequence[Stage]) -> list[str]:
    """The problems of a cascade's order: each stage that must be last and is not, with the order to take. Only stages
    that keep the form of what is there may follow one."""
    own = [stage for stage in stages if not stage.last and not stage.keeps_form]
    ending = [stage for stage in stages if stage.last][-1:]
    keeping = [stage for stage in stages if stage.keeps_form]
    order = "+".join(stage.method for stage in (*own, *ending, *keeping))
    problems = []
    for place, stage in enumerate(stages):
        after = next((later for later in stages[place + 1 :] if not later.keeps_form), None)
        if stage.last and after is not None:
            problems.append(
                f"stage '{stage.label}' must be the last of the cascade: '{after.label}' after it would change the"
                f" values it leaves. Take stage={order}."
            )
    return problems
