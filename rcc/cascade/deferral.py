"""Defer the judgement of a step to the one after it, where that may give back what the step lost.

A step that the gate refuses is kept for the time being if recovery comes next. What is judged is the model after that.
Where it is still refused, both are undone and the step gets its next, softer attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rcc.cascade.gate import Gate
from rcc.cascade.history import History
from rcc.cascade.records import DEFERRED, Attempt, StepRecord
from rcc.stages.base import Stage


def recovery_follows(history: History, stages: Sequence[Stage], gate: Gate) -> bool:
    """Whether the step after the next one may give back what that one loses, and the gate would undo it else."""
    step, *after = history.remaining()[:2]
    if not after or not gate.rollback or gate.on_failure == "continue":
        return False
    stage = next(stage for stage in stages if stage.label == after[0].label)
    return stage.keeps_form and after[0].round == step.round


def refusal_after(history: History, gate: Gate, record: StepRecord) -> str:
    """Why the gate refuses the last step still, whose judgement was deferred to the one of `record`; empty where it was
    not deferred or passes now."""
    if not history.records or history.records[-1].outcome != DEFERRED:
        return ""
    last = record.attempts[-1]
    return last.problem if last.retention is None else gate.problem(last.retention, last.interval)


def refused_attempts(history: History, record: StepRecord, refusal: str) -> list[Attempt]:
    """The attempts so far of the last step, which that of `record` did not recover enough: the last one has what was
    measured after it."""
    *before, first = history.records[-1].attempts
    after = record.attempts[-1]
    problem = f"{first.problem}; after {record.step.label} {refusal}"
    return [*before, replace(first, problem=problem, retention=after.retention, interval=after.interval)]
