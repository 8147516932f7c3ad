"""Compare ways to search by what they find and what they cost: samplers, and early stopping against none.

    python benchmarks/searches.py                        # TPE, random, TPE with early stopping; 20 trials, 3 seeds
    python benchmarks/searches.py <folder> --trials 12 --seeds 1 --ways tpe tpe+front

Each search is a command of its own, `experiment=pareto` on the embedded CLIP with pruning by size alone
(`stage.dare.solver=none`), so that a trial takes seconds. Prints, a line a search, the hypervolume of retention at
bytes as docs/reports.md defines it, processor time, user and system, of the whole command, and how many trials were
abandoned; then the medians. Started again in its folder it runs what is missing. Cost: about four seconds of a core a
trial.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from shared_work import processor_seconds

WAYS = {
    "tpe": ("sampler=tpe",),
    "random": ("sampler=random",),
    "tpe+front": ("sampler=tpe", "early_stopping=front"),
}
SEARCH = ("-m", "experiment=pareto", "threads=1", "stage.dare.solver=none")


def searched(folder: Path, way: str, seed: int, trials: int, words: list[str]) -> dict[str, float]:
    """Hypervolume, seconds and abandoned trials of one search, run now or known from the folder."""
    place = folder / f"{way}-{seed}"
    known = folder / f"{way}-{seed}.json"
    if not known.exists():
        shutil.rmtree(place, ignore_errors=True)
        asked = [f"n_trials={trials}", f"hydra.sweeper.seed={seed}", f"hydra.sweep.dir={place}"]
        seconds = processor_seconds([*SEARCH, *WAYS[way], *asked, *words], folder / f"{way}-{seed}.log")
        known.write_text(json.dumps({"seconds": seconds, **found(place)}))
    content: dict[str, float] = json.loads(known.read_text())
    return content


def found(place: Path) -> dict[str, float]:
    """What a search came to, from its files."""
    from rcc.reporting.recorded.sweep import read_sweep
    from rcc.sweeps.front import hypervolume

    trials = read_sweep(place).trials
    runs = [trial.run for trial in trials if trial.feasible and trial.run is not None]
    largest = max(run.numbers.artifact["dense_float32_bytes"] for run in runs)
    points = [(run.result["retention"], run.result["bytes"]) for run in runs]
    abandoned = sum(trial.status == "abandoned" for trial in trials)
    return {"hypervolume": hypervolume(points, largest), "abandoned": abandoned, "trials": len(trials)}


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="by default a new one among the temporary ones")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    asked, words = parser.parse_known_args(arguments)
    folder = (asked.folder or Path(tempfile.mkdtemp(prefix="rcc-searches-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print("way         seed  hypervolume  processor time  trials  abandoned")
    results: dict[str, list[dict[str, float]]] = {way: [] for way in asked.ways}
    for seed in range(asked.seeds):
        for way in asked.ways:  # side by side, so that a machine that grows busier meets all of them
            one = searched(folder, way, seed, asked.trials, words)
            results[way].append(one)
            numbers = f"{one['hypervolume']:>11.4f}  {one['seconds']:>12.1f} s  {one['trials']:>6.0f}"
            print(f"{way:<10}  {seed:>4}  {numbers}  {one['abandoned']:>9.0f}", flush=True)
    for way, several in results.items():
        kept, seconds = (median(one[name] for one in several) for name in ("hypervolume", "seconds"))
        print(f"{way:<10}  median {kept:>9.4f}  {seconds:>12.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
