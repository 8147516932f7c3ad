"""Compare the processor time of trials in one sweep with that of as many separate runs.

    python benchmarks/shared_work.py                       # trials of the default run, at several sparsities
    python benchmarks/shared_work.py --trials 5 debug=quick

A sweep loads its packages once, and its trials share what is a pure function of model and data (docs/sweeps.md). A
sweep of one trial and one of several tell what its start and each further trial cost; separate runs stand between them,
so that a machine that grows busier meets both. Processor time, user and system, of whole processes, threads=1. Prints
the seconds and the ratio for 20 trials. Cost: about 1 + 2 × trials default runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

MANY = 20


def processor_seconds(words: list[str], log: Path) -> float:
    """What a command line takes in a process of its own; its output goes to `log`.

    Raises:
        SystemExit: it failed.
    """
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv(sys.executable, [sys.executable, "-m", "rcc.cli", *words])
    _, status, used = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(words)} failed:\n{log.read_text()[-2000:]}")
    return used.ru_utime + used.ru_stime


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=3, help="of the longer sweep, 2 or more; and separate runs")
    asked, words = parser.parse_known_args(arguments)
    sparsities = [f"{0.5 + 0.4 * index / asked.trials:.3f}" for index in range(asked.trials)]
    option = "stage.dare.target_sparsity"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fixed = ["threads=1", *words]

        def alone(index: int) -> float:
            place = [f"{option}={sparsities[index]}", f"hydra.run.dir={folder}/alone-{index}"]
            return processor_seconds([*fixed, *place], folder / f"alone-{index}.log")

        def swept(count: int) -> float:
            place = [f"{option}={','.join(sparsities[-count:])}", f"hydra.sweep.dir={folder}/swept-{count}"]
            return processor_seconds(["-m", *fixed, *place], folder / f"swept-{count}.log")

        separate = [alone(0)]
        one = swept(1)
        separate += [alone(index) for index in range(1, asked.trials - 1)]
        several = swept(asked.trials)
        separate.append(alone(asked.trials - 1))
        told = [
            line for line in (folder / f"swept-{asked.trials}.log").read_text().splitlines() if "Taken from" in line
        ]
    each, mean = (several - one) / (asked.trials - 1), sum(separate) / len(separate)
    print(f"separate runs             {' '.join(f'{seconds:.1f}' for seconds in separate)} s")
    print(f"a sweep of 1              {one:.1f} s")
    print(f"a sweep of {asked.trials:<3}            {several:.1f} s: {each:.1f} s for each further trial")
    print(f"{MANY} trials in a sweep      {one + (MANY - 1) * each:.0f} s, as {MANY} runs {MANY * mean:.0f} s")
    print(f"ratio                     {(one + (MANY - 1) * each) / (MANY * mean):.3f}")
    print(told[-1] if told else "nothing was shared")
    return 0


if __name__ == "__main__":
    sys.exit(main())
