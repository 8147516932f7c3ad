"""Share a sweep among processes of this machine: each resumes it as another `rcc-run resume=` would."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rcc.command_line import command, key_of, names_code
from rcc.composing.outcomes import Outcome
from rcc.composing.telling import tell
from rcc.sweeps.record import SweepRecord, is_free
from rcc.sweeps.workers import THREADS, Workers, environment

OWN = ("hydra.mode", "hydra/sweeper", "hydra.sweep.dir", "hydra.sweeper.workers")
"""Arguments of Hydra's that a worker's `resume=` brings, or that are for the process which starts the workers."""
POLL_SECONDS = 0.5


def words(folder: Path, record: SweepRecord, fixed: Iterable[str], hydras: Iterable[str]) -> list[str]:
    """The command line of a worker.

    Args:
        fixed: the arguments that hold in every trial.
        hydras: those that were given to Hydra itself.
    """
    said = [text for text in fixed if is_free(text) or names_code(text)]
    said += [text for text in hydras if key_of(text) not in OWN]
    keys = {key_of(text) for text in said} | {"storage" for text in said if key_of(text) == "hydra.sweeper.storage"}
    again = [text for text in record.again() if key_of(text) not in keys]
    return [sys.executable, "-m", "rcc.cli", *command(f"resume={folder}", *said, *again)[1:]]


def share(line: Sequence[str], count: int, folder: Path, total: int, outcomes: Callable[[], Sequence[Outcome]]) -> None:
    """Run the command line `line` in `count` processes until all have ended, and tell each trial that ends meanwhile,
    each process that dies, and how many threads each has.

    Args:
        total: how many trials the sweep is to come to.
        outcomes: what the trials came to so far.
    """
    told = {outcome.number for outcome in outcomes() if outcome.done}
    with Workers(line, count, folder) as workers:
        threads = environment(count)[THREADS]
        print(f"{count} workers of {threads} threads each; their output: {workers.folder}/<worker>.log", flush=True)
        while workers.running:
            time.sleep(POLL_SECONDS)
            for worker in workers.ended():
                if worker.died:
                    tell(f"a worker died of {worker.died}; another takes up its trial. Its output: {worker.log}")
            for outcome in outcomes():
                if outcome.done and outcome.number not in told:
                    told.add(outcome.number)
                    print(f"[{len(told)}/{total}] trial {outcome.number}: {_came_to(outcome)}", flush=True)


def _came_to(outcome: Outcome) -> str:
    if outcome.error:
        return f"failed: {outcome.error}"
    if outcome.abandoned:
        return f"abandoned {outcome.abandoned}"
    if outcome.objective is None:
        return "done"
    missed = ", target missed" if outcome.missed else ""
    return f"retention {outcome.objective[0]:.2%}, {outcome.objective[1]:,.0f} bytes{missed}"
