"""Attack rcc with drawn inputs, each in a process of its own, and print what came out clean.

python scripts/attack --seed 0 --count 200
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
from trial import Verdict, judge


def main() -> int:
    """Draw, try, tell; 1 where an input was not clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="inputs of each class")
    parser.add_argument("--only", default="", help="a part of the name of the classes to try")
    arguments = parser.parse_args()
    import rcc.jobs.compress
    import rcc.jobs.evaluate
    import rcc.jobs.train  # noqa: F401  # every trial is forked with these loaded

    rows = []
    try:
        for name in [name for name in CLASSES if arguments.only in name]:
            verdicts = tried(name, arguments.seed, arguments.count)
            rows.append(f"| {name} | {len(verdicts)} | {sum(verdict.clean for verdict in verdicts)} |")
    finally:
        shutil.rmtree(base.scratch(), ignore_errors=True)
    print("\n".join(["", "| class | tried | clean |", "|---|--:|--:|", *rows]))
    return 0 if all(row.split("|")[2].strip() == row.split("|")[3].strip() for row in rows) else 1


def tried(name: str, seed: int, count: int) -> list[Verdict]:
    """The verdicts of a class, with every one that is not clean told as it comes."""
    verdicts, told = [], time.monotonic()
    for number in range(count):
        folder = base.scratch() / "trials" / f"{len(name)}-{number}"
        trial = CLASSES[name](random.Random(f"{name} {seed} {number}"), folder)
        verdict = judge(trial)
        verdicts.append(verdict)
        if not verdict.clean:
            print(f"\n{name}, {number}: {verdict.label}\n  {'; '.join(verdict.complaints)}\n{verdict.said}", flush=True)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{name}: {number + 1} of {count}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
