"""Keep a search's trials in a study of Optuna: a journal file in the sweep's folder, or a database by its URL.

The study is what several processes share and what optuna-dashboard shows. Each trial is written with all of its
parameters in one operation, so that a process may be killed at any instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcc.atomic import foreign_errors
from rcc.errors import UserError, listed
from rcc.sweeps.record import SweepRecord, parsed
from rcc.sweeps.space import Dimension
from rcc.sweeps.storage import database, journal, storage_errors, without_password

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"
NAME = "rcc"
ASKED, PLACE = "rcc_sweep", "place"
MESSAGE, CODE, RETRY, NUMBERS, MISSED = "message", "exit_code", "retry_of", "numbers", "missed"


class SweepStudy:
    """The study of one sweep. The caller holds the sweep's lock around every call.

    Args:
        folder: the sweep's.
        url: of a database; empty: the journal file in the folder.
        name: of the study in that database.
        directions: 'maximize' or 'minimize' for each objective.
        begun: whether the sweep has trials, so that its study must be there.

    Raises:
        UserError: the study cannot be opened, is not there, or belongs to another search.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        directions: Sequence[Any],
        space: Sequence[Dimension],
        name: str = NAME,
        begun: bool = False,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the command line says what happens
        self.folder, self.space = folder, {dimension.option: dimension for dimension in space}
        self.where = folder / JOURNAL if not url else without_password(url)
        self._elsewhere = bool(url)
        with self._errors():
            storage = journal(folder / JOURNAL) if not url else database(url)
            there = name in [study.study_name for study in storage.get_all_studies()]
        if begun and not there:
            raise UserError(
                f"{folder} holds trials of the study {name}, and {self.where} holds no such study. Put it back, or"
                " start another sweep in a folder of its own."
            )
        with self._errors():
            if there:
                self._study: Study = optuna.load_study(study_name=name, storage=storage)
            else:
                self._study = optuna.create_study(study_name=name, storage=storage, directions=[*directions])
            self._storage: BaseStorage = self._study._storage
            found = [direction.name.lower() for direction in self._study.directions]
        if found != list(directions):
            raise UserError(f"the study in {self.where} is to {', '.join(found)}, the sweep {', '.join(directions)}.")

    @property
    def study(self) -> Study:
        """Optuna's own."""
        return self._study

    def describe(self, record: SweepRecord) -> None:
        """Keep what the sweep was asked beside its trials, for whoever joins by the database alone."""
        asked = replace(record, place="").to_json()
        with self._errors():
            if self._study.user_attrs.get(ASKED) != asked:
                self._study.set_user_attr(ASKED, asked)

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number.

        Raises:
            UserError: one has parameters that the sweep does not search, or values that it does not have: somebody
                else wrote them.
        """
        found = self.reported()
        for trial in found:
            for name, value in trial.params.items():
                if name not in self.space or not self.space[name].holds(value):
                    raise UserError(
                        f"trial {trial.number} in {self.where} has {name}={value!r}, which this sweep does not search."
                        " Start another sweep in a folder of its own."
                    )
        return found

    def add(self, trial: FrozenTrial, retry_of: int | None = None, place: str = "") -> int:
        """Write a trial that is about to run, in one operation; returns its number, which is unique for ever.

        Args:
            place: of the folder in which it runs, see `SweepRecord`.
        """
        trial.user_attrs = ({} if retry_of is None else {RETRY: retry_of}) | ({PLACE: place} if place else {})
        with self._errors():
            made = self._storage.create_new_trial(self._study._study_id, template_trial=trial)
            return int(self._storage.get_trial_number_from_id(made))

    def tell(
        self, number: int, values: Sequence[float], violated: Mapping[str, float], noted: Mapping[str, Any]
    ) -> None:
        """Note what a trial came to; by how much it violates each constraint, ≤ 0 where it does not."""
        from optuna.trial import TrialState

        with self._errors():
            identity = self._identity(number)
            for name, value in noted.items():
                self._storage.set_trial_user_attr(identity, name, value)
            for name, value in violated.items():  # as optuna.trial.Trial.set_constraint does
                self._storage.set_trial_system_attr(identity, f"constraints:{name}", value)
            self._storage.set_trial_state_values(identity, TrialState.COMPLETE, list(values))

    def report(self, number: int, step: int, value: float, noted: Mapping[str, Any]) -> None:
        """Note what a trial came to after a step, and what it says of itself beside that; again is the same as once."""
        with self._errors():
            identity = self._identity(number)
            for name, what in noted.items():
                self._storage.set_trial_user_attr(identity, name, what)
            self._storage.set_trial_intermediate_value(identity, step, value)

    def note(self, number: int, noted: Mapping[str, Any]) -> None:
        """Note more of a trial that is not done."""
        with self._errors():
            for name, what in noted.items():
                self._storage.set_trial_user_attr(self._identity(number), name, what)

    def abandon(self, number: int, reason: str) -> None:
        """Note that a trial was stopped early, for good, and why."""
        from optuna.trial import TrialState

        with self._errors():
            identity = self._identity(number)
            self._storage.set_trial_user_attr(identity, MESSAGE, reason)
            self._storage.set_trial_state_values(identity, TrialState.PRUNED)

    def reported(self) -> list[FrozenTrial]:
        """All trials, by number, whatever they have searched."""
        with self._errors():
            return self._study.get_trials(deepcopy=False)

    def fail(self, number: int, message: str, code: int) -> None:
        """Note why a trial failed."""
        from optuna.trial import TrialState

        with self._errors():
            identity = self._identity(number)
            self._storage.set_trial_user_attr(identity, MESSAGE, message)
            self._storage.set_trial_user_attr(identity, CODE, code)
            self._storage.set_trial_state_values(identity, TrialState.FAIL)

    def _identity(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with storage_errors(str(self.where)), nullcontext() if self._elsewhere else foreign_errors(self.folder):
            yield


def recorded(url: str, name: str) -> SweepRecord:
    """What the sweep was asked whose study of that name lies in a database; '' where it holds one study alone.

    Raises:
        UserError: there is no such study, it is of no sweep of rcc's, or the database cannot be reached.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    where = without_password(url)
    with storage_errors(where):
        storage = database(url)
        found = {study.study_name: study.user_attrs.get(ASKED) for study in storage.get_all_studies()}
    sweeps = {study: record for study, asked in found.items() if (record := parsed(asked)) is not None}
    if not name and len(sweeps) == 1:
        return next(iter(sweeps.values()))
    if name not in sweeps:
        asked = f"no study of a sweep is called '{name}'" if name else f"there are {len(sweeps)} studies of sweeps"
        which = f"Name one, resume={where}#<study>: {listed(sweeps)}." if sweeps else "Start one with storage=."
        raise UserError(f"resume={where}: {asked} in that database. {which}")
    return sweeps[name]
