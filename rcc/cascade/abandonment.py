"""End a run whose remaining steps are not worth doing, as whoever watches it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcc.cascade.records import DEFERRED, StepRecord

Question = Callable[[Sequence[StepRecord]], str]
"""Asks, of the finished steps, why the steps that are left are not worth doing; an empty answer: they are."""


class AbandonedError(Exception):
    """A run that is not worth going on with: why, and after how many steps."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(f"abandoned after step {step}: {reason}")
        self.reason, self.step = reason, step


def refuse_hopeless(question: Question | None, done: Sequence[StepRecord]) -> None:
    """Ask before the next step; a resumed run asks what the one before it asked last.

    Raises:
        AbandonedError: the answer is a reason.
    """
    if question is None or (done and done[-1].outcome == DEFERRED):  # it is judged after the next step
        return
    if reason := question(done):
        raise AbandonedError(reason, len(done))
