"""Keep a search's trials in a study of Optuna: a journal file in the sweep's folder, or a database by its URL.

The study is what several processes share and what optuna-dashboard shows. Each trial is written with all of its
parameters in one operation, so that a process may be killed at any instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcc.atomic import foreign_errors
from rcc.errors import UserError
from rcc.sweeps.space import Dimension
from rcc.sweeps.storage import PASSWORD, database, hidden, journal, without_password

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"
NAME = "rcc"
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

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number.

        Raises:
            UserError: one has parameters that the sweep does not search, or values that it does not have: somebody
                else wrote them.
        """
        with self._errors():
            found = self._study.get_trials(deepcopy=False)
        for trial in found:
            for name, value in trial.params.items():
                if name not in self.space or not self.space[name].holds(value):
                    raise UserError(
                        f"trial {trial.number} in {self.where} has {name}={value!r}, which this sweep does not search."
                        " Start another sweep in a folder of its own."
                    )
        return found

    def add(self, trial: FrozenTrial, retry_of: int | None = None) -> int:
        """Write a trial that is about to run, in one operation; returns its number, which is unique for ever."""
        trial.user_attrs = {} if retry_of is None else {RETRY: retry_of}
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
        """What a storage cannot do, as an error of ours.

        Raises:
            UserError: it cannot be reached, read or written.
        """
        try:
            with nullcontext() if self._elsewhere else foreign_errors(self.folder):
                yield
        except (OSError, UserError):
            raise
        except ImportError as error:
            raise UserError(
                f"the study in {self.where} needs a package for its kind of database ({error}); for postgresql://:"
                " pip install 'rcc[postgresql]'."
            ) from error
        except Exception as error:
            reason = hidden(" ".join(str(error).split("\n(Background")[0].split()))
            raise UserError(
                f"the study in {self.where} cannot be used: {type(error).__name__}: {reason}. By default it is a"
                " file in the sweep's folder; storage=<url> names a database that runs and may be written to, whose"
                f" password may stand in {PASSWORD}."
            ) from error
