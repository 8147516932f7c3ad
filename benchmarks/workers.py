"""Compare a sweep that two worker processes share with the same sweep in one process: wall clock and processor time.

    python benchmarks/workers.py                           # six trials of pruning
    python benchmarks/workers.py --trials 6 --workers 2 debug=quick

Each worker has one thread, and so has the one process. Prints seconds by the clock, seconds of processors of the whole
command, and how many processors were at work on average, which says how idle the machine was. Two workers on idle
processors would be faster by what is printed last: twice the processor time of one over that of two, less what one
process does alone before and after them. Cost: twice as many trials, some twenty seconds of a core each.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from shared_work import processor_seconds

FIXED = ("-m", "stage=dare", "threads=1")


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    asked, words = parser.parse_known_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(asked.workers)  # which the workers divide among them
    swept = ",".join(f"{0.5 + 0.4 * index / asked.trials:.3f}" for index in range(asked.trials))
    print("workers  clock      processors  at work")
    clock, used = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for count in (1, asked.workers):
            more = [f"stage.dare.target_sparsity={swept}", f"hydra.sweep.dir={name}/{count}", *words]
            started = time.monotonic()
            line = [*FIXED, *more, *([f"workers={count}"] if count > 1 else [])]
            used[count] = processor_seconds(line, Path(name) / f"{count}.log")
            clock[count] = time.monotonic() - started
            busy = used[count] / clock[count]
            print(f"{count:>7}  {clock[count]:>6.1f} s  {used[count]:>8.1f} s  {busy:>7.2f}", flush=True)
    ratio, bound = clock[1] / clock[asked.workers], asked.workers * used[1] / used[asked.workers]
    print(f"by the clock {ratio:.2f} times as fast; by processor time at most {bound:.2f} times on idle processors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
