"""Hand trials to a launcher of Hydra's, and tell what each came to, whatever the launcher brings back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from rcc.composing.outcomes import Outcome
from rcc.composing.telling import in_words, tell


def launched(
    launcher: Launcher, jobs: Mapping[int, Sequence[str]], local: bool, left: Callable[[int], Outcome]
) -> list[Outcome]:
    """What each job came to: as it returned, or where it did not come back, what `left(number)` reads in its folder.

    Args:
        jobs: the arguments of each trial, by its number, which is that of its folder.
        local: whether the jobs run in this process, where what is raised is for the command line to tell.
    """
    arguments = [[*overrides, f"hydra.sweep.subdir={number}"] for number, overrides in jobs.items()]
    returned: Sequence[Any] = [None] * len(jobs)
    try:
        returned = launcher.launch(arguments, initial_job_idx=next(iter(jobs)))
    except Exception as error:  # one job that dies takes along what the others returned
        if local:
            raise
        tell(f"the launcher failed: {type(error).__name__}: {in_words(error)}")
    return [_outcome(each) or left(number) for number, each in zip(jobs, returned, strict=True)]


def _outcome(returned: JobReturn | None) -> Outcome | None:
    """What a job returned; None where it did not come back, or raised, which no job of ours does by itself."""
    try:
        value = None if returned is None else returned.return_value
    except Exception as error:
        tell(f"a job ended in {type(error).__name__}: {error}")
        return None
    return value if isinstance(value, Outcome) else None


def set_aside(place: Path) -> None:
    """Keep what a job left that has no steps to continue from, and free its folder for the job afresh."""
    number = 1
    while (aside := place.with_name(f"{place.name}.stopped-{number}")).exists():
        number += 1
    os.rename(place, aside)
