"""Run the trials of a sweep, each in the folder of its number, whatever was done of them before.

A trial that finished is read from its folder, one that was stopped goes on from its own state, one that another process
works on is left to it. Which trials there are is a subclass's matter. One process runs them one after another; a
launcher of Hydra's may be handed several at a time, and `workers=` starts processes that do as this one does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.rcc_pareto.launching import launched, set_aside
from hydra_plugins.rcc_pareto.sharing import share, words
from rcc.composing.outcomes import Command, Outcome
from rcc.composing.overrides import of_sweeper, quoted
from rcc.composing.space import parted
from rcc.errors import Problems, UserError
from rcc.sweeps import trials
from rcc.sweeps.record import FILE, SweepRecord, is_sweep, read_record, refuse_differences

SUBFOLDER = "${hydra.job.num}"


@dataclass(frozen=True)
class Trial:
    """A trial that is to be run: its number, its arguments, and the state in which it was found."""

    number: int
    overrides: tuple[str, ...]
    state: trials.State


class ResumableSweeper(Sweeper):
    """What lists and searches share.

    Args:
        params: arguments with several values, of an experiment's file.
        retry: whether to try again what failed.
        workers: processes to start, or how many trials a launcher is handed at a time; None: this process alone, all of
            a list and one of a search.
    """

    handed = 1
    """How many trials a launcher is handed at a time where `workers` does not say."""

    def __init__(self, params: Any = None, retry: bool = False, workers: int | None = None) -> None:
        problems = Problems()
        problems.flag("retry", retry)
        if workers is not None:
            problems.whole("workers", workers, 1)
        problems.done()
        self.params, self.retry, self.workers = params, retry, workers

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.composition, self.context = config, hydra_context
        self.command: Command = getattr(task_function, "command", Command())
        self.launches: Launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        self.folder = Path(config.hydra.sweep.dir)
        self.local = isinstance(self.launches, BasicLauncher)

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the sweep.

        Raises:
            UserError: the folder holds another sweep, or cannot be written to.
        """
        given = [*of_sweeper(self.params), *arguments]
        fixed, swept = parted(given, self.context.config_loader)
        self._refuse_without_effect()
        with self.exclusive():
            asked = self.asked(tuple(fixed), tuple(swept.values()))
            self.record = self._recorded(asked)
            self.fixed = asked.fixed  # the recorded ones, but for those that may be others
            self.begin()
            if self.record.n_trials != asked.n_trials:
                self.record = replace(self.record, n_trials=asked.n_trials)
                self.record.write(self.folder)
        self.command.sweep, self.command.again = self.folder, self.record.again()
        self.done: dict[int, Outcome] = {}  # of this process, so that none is run twice whatever its folder says
        if self.local and (self.workers or 1) > 1:
            self._share(self.workers or 1)
        self._run_what_is_left()  # with workers, what one left that died after the others
        with self.exclusive():
            self.command.outcomes[:] = self.outcomes()

    def _run_what_is_left(self) -> None:
        most = 1 if self.local else self.workers or self.handed
        while batch := self._chosen(most):
            try:
                outcomes = self._launched([trial for trial, _ in batch])
                with self.exclusive():
                    for (trial, _), outcome in zip(batch, outcomes, strict=True):
                        self.done[trial.number] = outcome
                        if outcome.done:
                            self.note(trial, outcome)
            finally:
                for _, claim in batch:
                    claim.release()
            if not all(outcome.done for outcome in outcomes):  # the launcher failed, and would do so again
                return

    def _launched(self, batch: Sequence[Trial]) -> list[Outcome]:
        """Run trials, each afresh or from its own state."""
        jobs = {}
        for trial in batch:
            overrides, place = list(trial.overrides), self.place(trial.number)
            if trial.state.status in (trials.STOPPED, trials.FAILED):
                if "resume" in self.composed(overrides):
                    overrides.append(f"resume={quoted(str(place))}")
                else:
                    set_aside(place)
            jobs[trial.number] = overrides
        return launched(self.launches, jobs, self.local, lambda number: self._lost(number, jobs[number]))

    def _lost(self, number: int, overrides: Sequence[str]) -> Outcome:
        """What a job came to that did not come back from its launcher, by its run.json."""
        state = trials.state_of(self.place(number))
        outcome = self.read(number, overrides, state)
        if state.status not in (trials.FINISHED, trials.ABANDONED):
            outcome.error, outcome.exit_code = "see its run.json" if outcome.done else "its process did not end it", 1
        return outcome

    def _share(self, count: int) -> None:
        def outcomes() -> list[Outcome]:
            with self.exclusive():
                return self.outcomes()

        hydras = [str(text) for text in self.composition.hydra.overrides.hydra]
        share(words(self.folder, self.record, self.fixed, hydras), count, self.folder, self.total, outcomes)

    def exclusive(self) -> AbstractContextManager[None]:
        """The lock under which trials are chosen and results noted, by one process at a time."""
        return trials.exclusive(self.folder)

    @abstractmethod
    def asked(self, fixed: tuple[str, ...], space: tuple[str, ...]) -> SweepRecord:
        """What the arguments ask for."""

    @abstractmethod
    def begin(self) -> None:
        """Get ready, once the record is written."""

    @property
    @abstractmethod
    def total(self) -> int:
        """How many trials the sweep is to come to."""

    @abstractmethod
    def choose(self) -> tuple[Trial, Any] | None:
        """The next trial that nobody works on, claimed for this process; None when there is none."""

    @abstractmethod
    def note(self, trial: Trial, outcome: Outcome) -> None:
        """Note what a trial came to."""

    @abstractmethod
    def outcomes(self) -> list[Outcome]:
        """What every trial came to, whichever process ran it."""

    def place(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / str(number)

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a trial, with Hydra's node."""
        return self.context.config_loader.load_sweep_config(self.composition, list(overrides))

    def read(self, number: int, overrides: Sequence[str], state: trials.State) -> Outcome:
        """The outcome of a trial, from what its folder says."""
        if number in self.done:
            return self.done[number]
        outcome = Outcome(number, tuple(text.removeprefix("++") for text in overrides), self.place(number))
        outcome.done = state.status in (trials.FINISHED, trials.FAILED, trials.ABANDONED)
        outcome.abandoned = state.abandoned
        result = state.result
        if result is not None:
            outcome.numbers = dict(result.numbers)
            outcome.missed, outcome.target = result.missed, result.target
        return outcome

    def current(self) -> SweepRecord:
        """The record as it stands: another process may have noted a failure."""
        return read_record(self.folder)

    def _recorded(self, asked: SweepRecord) -> SweepRecord:
        """The sweep's record: the new one, written before anything else, or that in the folder with what may change.

        Raises:
            UserError: the folder holds a sweep that was asked otherwise, or that this command does not resume.
        """
        if not is_sweep(self.folder):
            asked.write(self.folder)
            return asked
        found = read_record(self.folder)
        if not self.command.resumes:
            raise UserError(
                f"{self.folder} already holds a sweep. Continue it with `{found.resume_line(self.folder)}`, or give"
                " another hydra.sweep.dir (by default every sweep gets a folder of its own)."
            )
        refuse_differences(self.folder, found, asked)
        if found.versions != asked.versions:
            print(f"{self.folder} was started by other versions of the code; {FILE} and each run.json hold them.")
        return found

    def _refuse_without_effect(self) -> None:
        written = OmegaConf.to_container(self.composition.hydra.sweep, resolve=False)
        assert isinstance(written, dict)
        problems = Problems()
        problems.check(
            written["subdir"] == SUBFOLDER,
            f"hydra.sweep.subdir is {written['subdir']}; the folder of a trial is its number. Leave it out.",
        )
        problems.check(
            self.workers is None or self.composition.get("dry_run") is not True,
            f"workers={self.workers} has no effect: a plan runs nothing. Leave it out.",
        )
        problems.done()

    def _chosen(self, most: int) -> list[tuple[Trial, Any]]:
        """The next trials that nobody works on, claimed for this process."""
        chosen: list[tuple[Trial, Any]] = []
        with self.exclusive():
            while len(chosen) < most and (found := self.choose()) is not None:
                chosen.append(found)
        return chosen


def code_versions() -> dict[str, Any]:
    """The commit and the packages that decide what a trial comes to."""
    from rcc.reporting.run_manifest import environment

    here = environment()
    return {"git": here["git"], "packages": here["versions"]}
