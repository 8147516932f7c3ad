"""Claim a run directory for one live process: by a lock, described by run.json, never used twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rcc.atomic import FULL, remove_directory, write_text
from rcc.cascade.records import Step
from rcc.command_line import command, resume_line, resuming
from rcc.errors import UserError, WorkError
from rcc.jobs.job import Job
from rcc.reporting.run_manifest import (
    ABANDONED,
    COMPLETED,
    FAILED,
    FILE,
    FINISHED,
    INTERRUPTED,
    finish_attempt,
    read_run_manifest,
    start_attempt,
)

LOCK, CONFIG = ".lock", ".hydra"


@contextmanager
def claimed(job: Job, plan: Sequence[Step] = (), makes: Sequence[Path] = ()) -> Iterator[None]:
    """Hold the run's directory while the block runs, and note in run.json how it ended.

    Where the input was wrong and nothing was made of it, the directory is free again for the command mended.

    Args:
        makes: what a fresh run will make in it, and what an attempt before may have made.

    Raises:
        UserError: another process holds it, it was used before and this is no resume, something stands where the run
            will write, or it cannot be written.
        WorkError: it was removed while the block ran.
    """
    directory = job.directory
    lock = FileLock(directory / LOCK)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"a run is live in {directory}. Wait for it or stop it; afterwards"
            f" `{resume_line(directory, job.overrides)}` continues it if it did not finish."
        ) from None
    except OSError as error:
        kind = WorkError if error.errno in FULL else UserError
        raise kind(
            f"the output folder {directory} cannot be written: {error.strerror or error}. "
            "Give another with hydra.run.dir=<directory>."
        ) from error
    try:
        _refuse_used(job, makes)
        recorded = read_run_manifest(directory)["environment"]["threads"] if job.resumed else None
        threads = job.set_threads(recorded)
        number = _attempts(directory) + 1
        _record_config(job, number)
        start_attempt(directory, command=started_by(job), seed=job.seed, plan=plan, threads=threads)
        try:
            yield
        except KeyboardInterrupt:
            if (directory / FILE).exists():
                finish_attempt(directory, INTERRUPTED)
            raise
        except BaseException as error:
            _refuse_removed(directory, error)  # then whatever was raised says that files are missing, not why
            if isinstance(error, UserError) and number == 1 and _nothing_kept(directory):
                _withdraw(directory)
            else:
                finish_attempt(directory, FAILED)
            raise
        _refuse_removed(directory)
        finish_attempt(directory, ABANDONED if "abandoned" in read_run_manifest(directory) else FINISHED)
    finally:
        lock.release()


def finished(job: Job) -> bool:
    """Whether the run to resume has already finished, or was abandoned."""
    return job.resumed and read_run_manifest(job.directory)["status"] in COMPLETED


def started_by(job: Job) -> list[str]:
    """The command line that started this attempt, the program by its name alone."""
    return resuming(job.directory, job.overrides) if job.resumed else command(*job.overrides)


def _refuse_used(job: Job, makes: Sequence[Path]) -> None:
    if job.resumed:
        return
    if (job.directory / FILE).exists():
        raise UserError(
            f"{job.directory} already holds a run. Continue it with `{resume_line(job.directory, job.overrides)}`, or "
            "give a fresh run another hydra.run.dir (by default every run gets a directory of its own)."
        )
    in_the_way = [str(path) for path in makes if os.path.lexists(path)]
    if in_the_way:
        raise UserError(
            f"{' and '.join(in_the_way)} stands where this run would write, and no run made it. Move it elsewhere, or "
            "give another hydra.run.dir."
        )


def _refuse_removed(directory: Path, cause: BaseException | None = None) -> None:
    if not (directory / FILE).exists():
        raise WorkError(
            f"{directory} was removed, renamed or emptied while the run in it was live: its {FILE} is gone, and with "
            "it what a resume would need. Where it was renamed, resume=<its new name> continues it; else start afresh."
        ) from cause


def _nothing_kept(directory: Path) -> bool:
    return {entry.name for entry in directory.iterdir()} <= {LOCK, FILE, CONFIG}


def _withdraw(directory: Path) -> None:
    (directory / FILE).unlink()
    remove_directory(directory / CONFIG)


def _attempts(directory: Path) -> int:
    return len(read_run_manifest(directory)["attempts"]) if (directory / FILE).exists() else 0


def _record_config(job: Job, attempt: int) -> None:
    """Write what was composed under .hydra/, the first attempt at its top, later ones in folders of their own."""
    folder = job.directory / CONFIG
    if attempt > 1:
        folder /= f"attempt-{attempt}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"{folder} could not be made: {error.strerror or error}") from error
    write_text(folder / "config.yaml", job.config_text)
    write_text(folder / "overrides.yaml", "".join(f"- {_quoted(line)}\n" for line in job.overrides) or "[]\n")


def _quoted(text: str) -> str:
    """A YAML scalar in single quotes."""
    return "'" + text.replace("'", "''") + "'"
