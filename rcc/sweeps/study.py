"""Keep a search's trials in a study of Optuna: a journal file in the sweep's folder, or a database by its URL.

The study is what several processes share and what optuna-dashboard shows. Each trial is written with all of its
parameters in one operation, so that a process may be killed at any instant.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from rcc.atomic import foreign_errors
from rcc.errors import UserError
from rcc.sweeps.space import Dimension, Value

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
        directions: 'maximize' or 'minimize' for each objective.

    Raises:
        UserError: the study cannot be opened, or belongs to another search.
    """

    def __init__(self, folder: Path, url: str, directions: Sequence[Any], space: Sequence[Dimension]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the command line says what happens
        self.folder, self.space = folder, {dimension.option: dimension for dimension in space}
        self.where = folder / JOURNAL if not url else without_password(url)
        self._elsewhere = bool(url)
        name = NAME if not url else f"{NAME}-{folder.resolve().name}"
        with self._errors():
            storage = _journal(folder / JOURNAL) if not url else _database(url)
            if name in [study.study_name for study in storage.get_all_studies()]:
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
        except Exception as error:
            reason = " ".join(str(error).split("\n(Background")[0].split())
            raise UserError(
                f"the study in {self.where} cannot be used: {type(error).__name__}: {reason}. By default it is a"
                " file in the sweep's folder; storage=<url> names a database that runs and may be written to."
            ) from error


def values_of(trial: FrozenTrial) -> dict[str, Value]:
    """The parameters of a trial by option."""
    return dict(trial.params)


def without_password(url: str) -> str:
    """A URL as it may be printed and stored."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{host}"))


def _journal(path: Path) -> BaseStorage:
    """The storage of a journal file, behind a lock that ends with the process that holds it."""
    from filelock import FileLock
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._file import BaseJournalFileLock

    class Lock(BaseJournalFileLock):
        def __init__(self) -> None:
            self._lock = FileLock(path.with_name(f".{path.name}.lock"))

        def acquire(self) -> bool:
            self._lock.acquire()
            return True

        def release(self) -> None:
            self._lock.release()

    _drop_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=Lock()))


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process did not finish: nothing after it could be read."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _database(url: str) -> BaseStorage:
    from optuna.storages import RDBStorage

    return RDBStorage(url)
