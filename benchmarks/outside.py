"""Measure what share of a sweep's trial is neither compression nor evaluation.

    python benchmarks/outside.py                           # two trials of the default run
    python benchmarks/outside.py --trials 3 debug=quick

Attempts of steps, and measurements on any split, count as inside, each second once; loading, checkpoints, the
artifact, reports and the study are outside. Processor time of the one process, threads=1; starting it is no trial's.
Prints a line a trial: the first computes what the others take from it. Cost: as many runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

INSIDE = (
    *(("rcc.cascade.execution", name) for name in ("attempt_step", "measure_dense")),
    *(("rcc.jobs.job.Job", name) for name in ("measure", "measure_all", "measure_dense")),
)


class Clock:
    """Processor time spent in functions, those within one another counted once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added up."""

        def call(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            self._depth += 1
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.process_time() - started

        return call


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=2)
    asked, words = parser.parse_known_args(arguments)
    from rcc.cascade import execution
    from rcc.cli import main as run
    from rcc.jobs.compress import Compress
    from rcc.jobs.job import Job

    clock, rows = Clock(), []
    for where, name in INSIDE:
        owner: Any = execution if where.endswith("execution") else Job
        setattr(owner, name, clock.timed(getattr(owner, name)))
    whole = Compress.run

    def trial(job: Compress) -> Any:
        started, before = time.process_time(), clock.seconds
        try:
            return whole(job)
        finally:
            rows.append((time.process_time() - started, clock.seconds - before))

    Compress.run = trial  # type: ignore[method-assign]
    swept = ",".join(f"{0.5 + 0.4 * index / asked.trials:.3f}" for index in range(asked.trials))
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        code = run(["-m", "threads=1", f"stage.dare.target_sparsity={swept}", f"hydra.sweep.dir={folder}/s", *words])
    if code:
        print(said.getvalue()[-2000:])
        return code
    print("trial  processor time  outside  share")
    for number, (seconds, inside) in enumerate(rows):
        print(f"{number:>5}  {seconds:>12.1f} s  {seconds - inside:>5.1f} s  {1 - inside / seconds:>5.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
