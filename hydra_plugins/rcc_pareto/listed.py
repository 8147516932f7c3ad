"""Sweep over every combination of listed values; trial k is the k-th."""

from __future__ import annotations

from typing import Any

from hydra_plugins.rcc_pareto.resumable import ResumableSweeper, Trial, code_versions
from rcc.composing.outcomes import Outcome
from rcc.composing.space import dimensions
from rcc.sweeps import deaths, trials
from rcc.sweeps.record import LIST, SweepRecord
from rcc.sweeps.space import every_point

ALL = 1_000_000
"""Trials of a list that a launcher is handed at a time: none waits for another's result."""


class ListSweeper(ResumableSweeper):
    """Hydra's grids and lists, resumable; see conf/hydra/sweeper/basic.yaml."""

    handed = ALL

    def asked(self, fixed: tuple[str, ...], space: tuple[str, ...]) -> SweepRecord:
        return SweepRecord(LIST, fixed, space, versions=code_versions())

    def begin(self) -> None:
        space = dimensions(self.record.space, self.context.config_loader)
        self.combinations = [
            (*(each.setting(point[each.option]) for each in space), *self.fixed) for point in every_point(space)
        ]
        states = [trials.state_of(self.place(number)) for number in range(self.total)]
        self._attempts = [state.attempts for state in states]  # what fails from here on is not tried again

    @property
    def total(self) -> int:
        return len(self.combinations)

    def choose(self) -> tuple[Trial, Any] | None:
        for number, overrides in enumerate(self.combinations):
            state = trials.state_of(self.place(number))
            failed = state.status == trials.FAILED or str(number) in self.record.failed
            again = self.retry and failed and state.attempts == self._attempts[number]
            due = again if failed else state.status in (trials.NEW, trials.STOPPED)
            if not due or number in self.done or (claim := trials.claim(self.folder, number)) is None:
                continue
            given_up = deaths.problem(self.place(number)) if state.status == trials.STOPPED and not again else ""
            if not given_up:
                return Trial(number, overrides, state), claim
            self.record = self.current().with_failure(number, given_up, 1)
            self.record.write(self.folder)
            claim.release()
        return None

    def note(self, trial: Trial, outcome: Outcome) -> None:
        found = self.current()
        self.record = found.without_failure(trial.number)
        if outcome.error:
            self.record = found.with_failure(trial.number, outcome.error, outcome.exit_code)
        if self.record != found:
            self.record.write(self.folder)

    def outcomes(self) -> list[Outcome]:
        self.record = self.current()
        found = []
        for number, overrides in enumerate(self.combinations):
            state = trials.state_of(self.place(number))
            outcome = self.read(number, overrides, state)
            if failure := self.record.failed.get(str(number)):
                outcome.error, outcome.exit_code = str(failure["message"]), int(failure.get("exit_code", 1))
                outcome.done = True
            elif state.status == trials.FAILED:  # killed between the trial's end and its note
                outcome.error, outcome.exit_code = "see its run.json", 1
            found.append(outcome)
        return found
