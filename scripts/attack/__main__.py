"""Attack rcc with drawn inputs, each in a process of its own, and print what came out clean.

python scripts/attack --seed 0 --count 200

This process imports rcc and makes a sound run, a checkpoint and data sets once; every trial is forked from it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import base
from classes import CLASSES
from trial import POLL, Running, Verdict


def main() -> int:
    """Draw, try, tell; 1 where an input was not clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="inputs of each class")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="inputs tried at the same time")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of the classes to try")
    arguments = parser.parse_args()
    import rcc.jobs.compress
    import rcc.jobs.evaluate
    import rcc.jobs.train  # noqa: F401  # every trial is forked with these loaded

    rows = []
    try:
        for name in [name for name in CLASSES if any(part in name for part in arguments.only)]:
            verdicts = tried(name, arguments.seed, arguments.count, arguments.jobs)
            rows.append(f"| {name} | {len(verdicts)} | {sum(verdict.clean for verdict in verdicts)} |")
    finally:
        shutil.rmtree(base.scratch(), ignore_errors=True)
    print("\n".join(["", "| class | tried | clean |", "|---|--:|--:|", *rows]))
    return 0 if all(row.split("|")[2].strip() == row.split("|")[3].strip() for row in rows) else 1


def tried(name: str, seed: int, count: int, jobs: int) -> list[Verdict]:
    """The verdicts of a class, `jobs` inputs at a time, with every one that is not clean told as it comes."""
    verdicts: list[Verdict] = []
    running: dict[int, Running] = {}
    coming, told = iter(range(count)), time.monotonic()
    while len(verdicts) < count:
        while len(running) < jobs and (number := next(coming, None)) is not None:
            folder = base.scratch() / "trials" / f"{len(name)}-{number}"
            running[number] = Running(CLASSES[name](random.Random(f"{name} {seed} {number}"), folder))
        for number, trial in list(running.items()):
            if (verdict := trial.verdict()) is None:
                continue
            verdicts.append(verdict)
            del running[number]
            shutil.rmtree(trial.trial.folder, ignore_errors=True)
            if not verdict.clean:
                complaints = "; ".join(verdict.complaints)
                print(f"\n{name}, {number}: {verdict.label}\n  {complaints}\n{verdict.said}", flush=True)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{name}: {len(verdicts)} of {count}", file=sys.stderr, flush=True)
        time.sleep(POLL)
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
