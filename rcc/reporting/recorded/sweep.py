"""Read a sweep's folder as its files describe it: sweep.json, and each trial's own directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcc.command_line import command_line, key_of, names_code
from rcc.errors import RccError, UserError
from rcc.locks import is_held
from rcc.reporting.recorded.run import LIVE, RecordedRun, read_run
from rcc.reporting.run_manifest import COMPLETED, FAILED, FINISHED
from rcc.reporting.run_manifest import FILE as RUN
from rcc.sweeps.objectives import Constraint, Objective, read_constraints, read_objectives, violations
from rcc.sweeps.record import LIST, SEARCH, SweepRecord, read_record
from rcc.sweeps.trials import CLAIMS

OBJECTIVES = ("retention:max", "bytes:min")
"""What a list, which has no objectives of its own, is looked at by."""
DAMAGED = "damaged"


@dataclass(frozen=True)
class RecordedTrial:
    """One trial of a sweep.

    Attributes:
        run: what its directory says; None where that is damaged.
        point: its values of what is searched, as typed.
        problem: why it failed, or why its directory cannot be read.
        violated: the constraints that it does not keep, its own target among them.
    """

    number: int
    run: RecordedRun | None
    point: Mapping[str, str]
    problem: str = ""
    violated: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return DAMAGED if self.run is None else self.run.status

    @property
    def done(self) -> bool:
        """Whether it finished with the numbers of a compression."""
        return self.run is not None and self.run.status == FINISHED and {"retention", "bytes"} <= set(self.run.result)

    @property
    def feasible(self) -> bool:
        return self.done and not self.violated


@dataclass(frozen=True)
class RecordedSweep:
    """What a sweep's files say.

    Attributes:
        folder: as it was asked for.
        keys: the options that are searched.
        trials: those that were begun, by number.
    """

    folder: Path
    record: SweepRecord
    keys: tuple[str, ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    trials: tuple[RecordedTrial, ...]

    @property
    def status(self) -> str:
        """'live' where a process works on a trial, 'failed' where one failed, 'finished' where all are done, else
        'stopped'."""
        states = [trial.status for trial in self.trials]
        if LIVE in states or is_claimed(self.folder):
            return LIVE
        if FAILED in states or self.record.failed:
            return FAILED
        asked = self.record.n_trials or len(states)
        return FINISHED if sum(state in COMPLETED for state in states) >= max(asked, 1) else "stopped"

    @property
    def repeat(self) -> str:
        """The command line that would search the same again."""
        record = self.record
        words = ["-m", *record.fixed, *record.space]
        if record.kind == SEARCH:
            named = {"objectives": record.objectives, "constraints": record.constraints}
            words += ["hydra/sweeper=pareto", f"n_trials={record.n_trials}", f"sampler={record.sampler}"]
            words += [f"early_stopping={record.early_stopping}"] * (record.early_stopping != "none")
            words += [f"{name}={json.dumps(texts, separators=(',', ':'))}" for name, texts in named.items() if texts]
            words.append(f"hydra.sweeper.seed={record.seed}")
        return command_line(*words)

    @property
    def resume(self) -> str:
        """The command line that goes on with it."""
        return self.record.resume_line(self.folder)

    @property
    def names_code(self) -> bool:
        return any(map(names_code, (*self.record.fixed, *self.record.space)))


def is_claimed(folder: Path) -> bool:
    """Whether a process works on a trial of the sweep in a folder."""
    place = folder / CLAIMS
    return place.is_dir() and any(is_held(lock) for lock in place.iterdir())


def read_sweep(folder: Path) -> RecordedSweep:
    """The sweep in a folder, with every trial that was begun; a damaged one is among them, with the reason.

    Raises:
        UserError: there is no sweep.json, or it is damaged.
    """
    record = read_record(folder)
    constraints = read_constraints(record.constraints)
    keys = tuple(dict.fromkeys(key_of(text) for text in record.space))
    numbers = sorted(int(path.parent.name) for path in folder.glob(f"*/{RUN}") if _is_number(path.parent.name))
    return RecordedSweep(
        folder,
        record,
        keys,
        read_objectives(OBJECTIVES if record.kind == LIST else record.objectives),
        constraints,
        tuple(_trial(folder / str(number), number, record, keys, constraints) for number in numbers),
    )


def _is_number(name: str) -> bool:
    return name.isdecimal() and name.isascii() and len(name) < 10 and str(int(name)) == name


def _trial(
    place: Path, number: int, record: SweepRecord, keys: Sequence[str], constraints: Sequence[Constraint]
) -> RecordedTrial:
    problem = str(record.failed.get(str(number), {}).get("message", ""))
    try:
        run = read_run(place, layers=False)
    except (OSError, RccError) as error:
        return RecordedTrial(number, None, {}, str(error))
    point = {key_of(text): text.partition("=")[2] for text in run.overrides if key_of(text) in keys}
    violated: tuple[str, ...] = ()
    try:
        excess = violations(run.result, constraints, bool(run.missed), run.target)
        violated = tuple(name for name, by in excess.items() if by > 0)
    except (KeyError, ZeroDivisionError):  # numbers that it does not have: it did not finish, or measures others
        pass
    return RecordedTrial(number, run, point, problem, violated)


def no_sweep(folder: Path) -> UserError:
    """What to say of a folder that is neither a run's nor a sweep's."""
    return UserError(f"{folder} holds neither a run nor a sweep: it has no run.json and no sweep.json.")
