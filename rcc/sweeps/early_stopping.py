"""Decide from what trials reported after each step whether one is worth going on with.

A decision is a function of the reports and results in the study alone, so that a trial whose process was killed is
asked again and answered the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rcc.errors import Problems, is_number, is_whole
from rcc.sweeps.front import Pair
from rcc.sweeps.objectives import ALWAYS, Objective

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

NONE, FRONT, MEDIAN, ASHA = "none", "front", "median", "asha"
NAMES = (NONE, FRONT, MEDIAN, ASHA)
BOTH = {"retention:max", "bytes:min"}
LEAST = 4
"""Results before a trial is judged by them: as many as Optuna's pruners would wait for, less one."""
NEAREST = 3
"""Of these, those of trials with the same stages left that a trial's own outcome is guessed by."""
REPORTS, EXPECTED, AT_BEST = "reports", "expected_bytes", "at_best"
"""What a trial notes of itself in the study: what it came to after each step, what its plan comes to at most, and, of
one that is not worth going on with, the objectives that it might have come to at best."""


@dataclass(frozen=True)
class Report:
    """What a trial came to after `step` steps, with those of the labels `left` still to do."""

    step: int
    left: tuple[str, ...]
    retention: float
    nbytes: float

    def number(self, name: str) -> float:
        """The objective of that name."""
        return {"retention": self.retention, "bytes": self.nbytes}[name]

    def to_json(self) -> list[Any]:
        return [self.step, [*self.left], self.retention, self.nbytes]


@dataclass(frozen=True)
class Course:
    """A trial as the study has it.

    Attributes:
        expected: bytes that its plan comes to without entropy coding.
        reports: by step, in order; step 0 is the dense model.
        final: (retention, bytes) of one that is done and feasible; None of any other.
    """

    number: int
    expected: float
    reports: Sequence[Report]
    final: Pair | None = None


@dataclass(frozen=True)
class Verdict:
    """Why a trial is not worth going on with, empty where it is; and what it might have come to at best."""

    reason: str = ""
    at_best: Pair | None = None


def check_early_stopping(name: str, objectives: Sequence[Objective]) -> None:
    """Refuse a rule that does not exist or that these objectives leave nothing to do.

    Raises:
        UserError: with what would have an effect.
    """
    problems = Problems()
    if problems.choice("early_stopping", name, NAMES) and name != NONE:
        asked = [f"{each.name}:{each.way}" for each in objectives]
        if name == FRONT:
            problems.check(
                set(asked) == BOTH,
                f"early_stopping=front weighs retention against bytes, and the objectives are {', '.join(asked)}. Take"
                " objectives=[retention:max,bytes:min], or leave early_stopping out.",
            )
        else:
            problems.check(
                len(asked) == 1 and objectives[0].name in ALWAYS,
                f"early_stopping={name} compares one objective that every step reports, retention or bytes, and the"
                f" objectives are {', '.join(asked)}. Take objectives=[retention:max] with a constraint, or"
                " early_stopping=front with [retention:max,bytes:min].",
            )
    problems.done()


def course_of(trial: FrozenTrial, objectives: Sequence[Objective]) -> Course:
    """What a trial noted of itself; what `rcc` would not write, as anybody's file may hold, is left out."""
    expected, noted = trial.user_attrs.get(EXPECTED), trial.user_attrs.get(REPORTS)
    reports = [_report(each) for each in noted] if isinstance(noted, list) else []
    final = None
    if trial.state.name == "COMPLETE" and not any(excess > 0 for excess in trial.constraints.values()):
        values = dict(zip([each.name for each in objectives], trial.values or (), strict=False))
        if {"retention", "bytes"} <= set(values):
            final = (values["retention"], values["bytes"])
    bound = float(expected) if is_number(expected) and 0 < expected < math.inf else math.inf
    return Course(trial.number, bound, [each for each in reports if each], final)


def learnt_from(trial: FrozenTrial) -> FrozenTrial:
    """A trial for a sampler. Of one that was abandoned with two objectives, which Optuna has no notion of, a sampler
    learns what it might have come to at best; with one objective its reports, by Optuna's own rules."""
    from optuna.trial import TrialState

    if trial.state.name != "PRUNED" or AT_BEST not in trial.user_attrs:
        return trial
    best = trial.user_attrs[AT_BEST]
    whole = isinstance(best, list) and len(best) == 2 and all(is_number(each) and math.isfinite(each) for each in best)
    trial.state = TrialState.COMPLETE if whole else TrialState.FAIL
    trial.values = [*map(float, best)] if whole else None
    return trial


def _report(noted: Any) -> Report | None:
    try:
        step, left, *numbers = noted
    except (TypeError, ValueError):
        return None
    whole = is_whole(step) and isinstance(left, list) and all(isinstance(label, str) for label in left)
    if not whole or len(numbers) != 2 or not all(is_number(each) and math.isfinite(each) for each in numbers):
        return None
    return Report(step, tuple(left), *map(float, numbers))


def judged_by_front(now: Course, others: Sequence[Course]) -> Verdict:
    """Whether what a trial may come to at best is beaten by a result that is there.

    At best it loses no more retention, and gains as much as any of those like it did from such a report on; and it
    takes as much less than its plan's bytes as any of them did. Like it are the trials with the same stages left, of
    which those count whose plans come nearest to its own in bytes.
    """
    done = [course for course in others if course.final is not None and course.reports and course.expected < math.inf]
    latest = now.reports[-1]
    if len(done) < LEAST or now.expected == math.inf:
        return Verdict()
    alike = [(course, report) for course in done if (report := _like(latest, course)) is not None]
    alike.sort(key=lambda each: (abs(math.log(each[0].expected / now.expected)), each[0].number))
    near = alike[:NEAREST]
    if len(near) < NEAREST:
        return Verdict()
    kept = latest.retention + max(0.0, *(course.final[0] - report.retention for course, report in near if course.final))
    nbytes = now.expected * min(course.final[1] / course.expected for course, _ in near if course.final)
    for course in done:
        assert course.final is not None
        better_kept, fewer = course.final
        if better_kept >= kept and fewer <= nbytes and (better_kept, fewer) != (kept, nbytes):
            return Verdict(
                f"at best it keeps {kept:.2%} in {nbytes:,.0f} bytes, and trial {course.number} keeps {better_kept:.2%}"
                f" in {fewer:,.0f}",
                (kept, nbytes),
            )
    return Verdict()


def _like(latest: Report, course: Course) -> Report | None:
    """The report of a trial with the same stages left: after as many steps, else the last."""
    same = [report for report in course.reports if set(report.left) == set(latest.left)]
    return next((report for report in same if report.step == latest.step), same[-1] if same else None)


def judged_by_pruner(
    name: str, now: FrozenTrial, course: Course, others: Sequence[FrozenTrial], direction: Any
) -> Verdict:
    """What Optuna's median or successive halving says of a trial with one objective.

    The rungs of successive halving are read off the reports, so that asking twice is asking once.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    latest = course.reports[-1]
    if latest.step == 0:  # the dense model, of which all trials report the same
        return Verdict()
    study = optuna.create_study(direction=direction)
    for trial in (*others, now):
        reached = {step: value for step, value in trial.intermediate_values.items() if step > 0}
        is_now = trial.number == now.number
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if is_now or not trial.state.is_finished() else trial.state,
                values=trial.values if trial.state.name == "COMPLETE" else None,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=reached,
                system_attrs=_rungs(reached, latest.step if is_now else None) if name == ASHA else {},
            )
        )
    pruner = optuna.pruners.MedianPruner() if name == MEDIAN else optuna.pruners.SuccessiveHalvingPruner(min_resource=1)
    if not pruner.prune(study, study.get_trials(deepcopy=False)[-1]):
        return Verdict()
    value = now.intermediate_values[latest.step]
    what = "the median of trials at that step" if name == MEDIAN else "the best quarter of trials at that step"
    return Verdict(f"{value:g} is behind {what}")


def _rungs(reached: Mapping[int, float], now: int | None) -> dict[str, float]:
    """The rungs of successive halving that a trial has passed, before step `now` where it is there."""
    found: dict[str, float] = {}
    for rung in range(64):
        steps = [step for step in reached if step >= 4**rung and (now is None or step < now)]
        if not steps:
            return found
        found[f"completed_rung_{rung}"] = reached[min(steps)]
    return found
