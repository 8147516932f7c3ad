"""Let a trial of a search report after each step and be told whether it is worth going on with.

The sweeper's side opens the watch around a job; the job, which knows nothing of searches, asks whether there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from rcc.sweeps.early_stopping import (
    AT_BEST,
    EXPECTED,
    FRONT,
    REPORTS,
    Report,
    Verdict,
    course_of,
    judged_by_front,
    judged_by_pruner,
)
from rcc.sweeps.objectives import Objective
from rcc.sweeps.study import SweepStudy
from rcc.sweeps.trials import exclusive


@dataclass
class Watch:
    """What watches one trial.

    Attributes:
        folder: the sweep's.
        url: of the database that holds its study, as this process was given it; empty: the file in the folder.
        study: its name there.
        rule: see `rcc.sweeps.early_stopping.NAMES`.
        objectives: of the search.
    """

    folder: Path
    url: str
    study: str
    number: int
    rule: str
    objectives: Sequence[Objective]

    def ask(self, report: Report, expected: float) -> str:
        """Write a report to the study and return why the trial is not worth going on with, or nothing.

        Args:
            expected: bytes that the trial's plan comes to.

        Raises:
            UserError: the study cannot be read or written.
        """
        with exclusive(self.folder):
            directions = [objective.direction for objective in self.objectives]
            study = SweepStudy(self.folder, self.url, directions, [], self.study, begun=True)
            known = course_of(study.reported()[self.number], self.objectives).reports
            reports = [*(each for each in known if each.step < report.step), report]
            noted = {REPORTS: [each.to_json() for each in reports], EXPECTED: expected}
            study.report(self.number, report.step, report.number(self.objectives[0].name), noted)
            verdict = self._verdict(study)
            if verdict.at_best is not None:
                best = dict(zip(("retention", "bytes"), verdict.at_best, strict=True))
                study.note(self.number, {AT_BEST: [best[objective.name] for objective in self.objectives]})
        return verdict.reason

    def _verdict(self, study: SweepStudy) -> Verdict:
        trials = study.reported()
        now, others = trials[self.number], [trial for trial in trials if trial.number != self.number]
        course = course_of(now, self.objectives)
        if self.rule == FRONT:
            return judged_by_front(course, [course_of(trial, self.objectives) for trial in others])
        return judged_by_pruner(self.rule, now, course, others, self.objectives[0].direction)


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch | None) -> Iterator[None]:
    """Let the job in the block be watched; None for one that is not."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def watch_here() -> Watch | None:
    """What watches this job; None where nothing does."""
    return _watch.get()
