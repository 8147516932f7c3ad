"""Run the trials of a sweep one after another, each in the folder of its number, whatever was done of them before.

A trial that finished is read from its folder, one that was stopped goes on from its own state, one that another process
works on is left to it. Which trials there are is a subclass's matter.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from rcc.command_line import command_line
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
    """

    def __init__(self, params: Any = None, retry: bool = False) -> None:
        problems = Problems()
        problems.flag("retry", retry)
        problems.done()
        self.params, self.retry = params, retry

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.composition, self.context = config, hydra_context
        self.command: Command = getattr(task_function, "command", Command())
        self.launches: Launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        self.folder = Path(config.hydra.sweep.dir)

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the sweep.

        Raises:
            UserError: the folder holds another sweep, or cannot be written to.
        """
        given = [*of_sweeper(self.params), *arguments]
        fixed, swept = parted(given, self.context.config_loader)
        self._refuse_subfolders()
        with trials.exclusive(self.folder):
            asked = self.asked(tuple(fixed), tuple(swept.values()))
            self.record = self._recorded(asked)
            self.begin()
            if self.record.n_trials != asked.n_trials:
                self.record = replace(self.record, n_trials=asked.n_trials)
                self.record.write(self.folder)
        self.command.sweep = self.folder
        self.done: dict[int, Outcome] = {}  # of this process, so that none is run twice whatever its folder says
        while (chosen := self._next()) is not None:
            trial, claim = chosen
            try:
                outcome = self.done[trial.number] = self._launched(trial)
                with trials.exclusive(self.folder):
                    self.note(trial, outcome)
            finally:
                claim.release()
        with trials.exclusive(self.folder):
            self.command.outcomes[:] = self.outcomes()

    @abstractmethod
    def asked(self, fixed: tuple[str, ...], space: tuple[str, ...]) -> SweepRecord:
        """What the arguments ask for."""

    @abstractmethod
    def begin(self) -> None:
        """Get ready, once the record is written."""

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

    def read(self, number: int, overrides: Sequence[str], result: trials.Result | None) -> Outcome:
        """The outcome of a trial that finished, from what its folder says."""
        if number in self.done:
            return self.done[number]
        outcome = Outcome(number, tuple(text.removeprefix("++") for text in overrides), self.place(number))
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
        if not self.command.resumes:
            raise UserError(
                f"{self.folder} already holds a sweep. Continue it with `{command_line(f'resume={self.folder}')}`, or"
                " give another hydra.sweep.dir (by default every sweep gets a folder of its own)."
            )
        found = read_record(self.folder)
        refuse_differences(self.folder, found, asked)
        if found.versions != asked.versions:
            print(f"{self.folder} was started by other versions of the code; {FILE} and each run.json hold them.")
        return found

    def _refuse_subfolders(self) -> None:
        written = OmegaConf.to_container(self.composition.hydra.sweep, resolve=False)
        assert isinstance(written, dict)
        if written["subdir"] != SUBFOLDER:
            raise UserError(
                f"hydra.sweep.subdir is {written['subdir']}; the folder of a trial is its number. Leave it out."
            )

    def _next(self) -> tuple[Trial, Any] | None:
        with trials.exclusive(self.folder):
            return self.choose()

    def _launched(self, trial: Trial) -> Outcome:
        """Run a trial, afresh or from its own state."""
        overrides, place = list(trial.overrides), self.place(trial.number)
        if trial.state.status in (trials.STOPPED, trials.FAILED):
            if "resume" in self.composed(overrides):
                overrides.append(f"resume={quoted(str(place))}")
            else:
                _set_aside(place)
        (returned,) = self.launches.launch([overrides], initial_job_idx=trial.number)
        outcome = returned.return_value
        assert isinstance(outcome, Outcome)
        return outcome


def code_versions() -> dict[str, Any]:
    """The commit and the packages that decide what a trial comes to."""
    from rcc.reporting.run_manifest import environment

    here = environment()
    return {"git": here["git"], "packages": here["versions"]}


def _set_aside(place: Path) -> None:
    """Keep what a job left that has no steps to continue from, and free its folder for the job afresh."""
    number = 1
    while (aside := place.with_name(f"{place.name}.stopped-{number}")).exists():
        number += 1
    os.rename(place, aside)
