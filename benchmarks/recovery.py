"""Measures what recovery gives back: the same run of the digits CLIP before and after its last step, at equal bytes;
and with `--arms` runs of other ways to the same bytes beside one another.

    OMP_NUM_THREADS=1 python benchmarks/recovery.py
    OMP_NUM_THREADS=1 python benchmarks/recovery.py trainer=distill schedule.rounds=3 --ratios 80 --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/recovery.py threads=1 --ratios 65 --arms            # all of them, for a night
    OMP_NUM_THREADS=1 python benchmarks/recovery.py threads=1 --ratios 50 65 80 --seeds 0 --arms none recover round

Each run is `rcc-run target_ratio=<ratio> trainer=recover export.container=file` with a seed of its own. What its state
held before recovery is the same run without it: the same zeros and steps, and as many bytes to within the last column
but one. Both are measured on the selection split, which chose the epoch, and on the test split, which chose nothing;
differences are paired over the same images, with their 95 % intervals. In the rows 'all' each image counts once, with
the mean of what it came to in the runs of all seeds. The dense model is the embedded one.

An arm is a whole run, `rcc-run target_ratio=<ratio> export.container=file` with the settings that `ARMS` has for it.
Arms are compared with the first that is named, image by image, and their processor seconds are those of the whole run,
its measurements and the artifact included. One that is more than 1 % above its target says so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

import rcc
from rcc.artifact.size import model_size
from rcc.cascade.state import StateStore
from rcc.cli import main as rcc_run
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.layers.encoding import STORED_DTYPES
from rcc.measurement.paired import Values, paired_intervals, values_of
from rcc.models.adapter import Adapter

SPLITS = ("selection", "test")
ARMS = {
    "none": ("trainer=none",),
    "alphas": ("trainer=none", "stage=dare+alpha+quant", "stage.alpha.repair=none", "stage.alpha.num_epochs=6"),
    "ls-repair": ("trainer=none", "stage=dare+alpha+quant", "stage.alpha.repair=least_squares"),
    "recover": ("trainer=recover",),
    "features": ("trainer=recover", "trainer.logits=0"),
    "logits": ("trainer=recover", "trainer.features=0"),
    "interactive": ("trainer=recover", "trainer.interactive=1"),
    "hidden": ("trainer=recover", "trainer.hidden=1"),
    "attention": ("trainer=recover", "trainer.attention=1"),
    "task": ("trainer=recover", "trainer.features=0", "trainer.logits=0", "trainer.task=1"),
    "steps": ("trainer=recover", "trainer.steps=learned"),
    "distill": ("trainer=distill",),
    "round": ("trainer=recover", "trainer.when=round"),
    "gradual": ("stage=gradual+quant", "trainer=none"),
    "gradual-recover": ("stage=gradual+quant", "trainer=recover"),
}
"""Ways to the same bytes, by what is set for them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ratios", type=float, nargs="+", default=[30, 50, 65, 80], help="target ratios")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs")
    parser.add_argument("--arms", nargs="*", choices=ARMS, help="compare these, or all of them")
    parser.add_argument("overrides", nargs="*", help="more settings, as rcc-run takes them")
    options = parser.parse_args()
    if options.arms is not None:
        compare_arms(options.arms or list(ARMS), options.ratios, options.seeds, options.overrides)
        return
    print("| × | seed | split | before | after | difference (95 %) | bytes before → after | s |")
    print("| --: | --: | :-- | --: | --: | --: | --: | --: |", flush=True)
    for ratio in options.ratios:
        runs = []
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                runs.append(compared(Path(folder) / "run", ratio, seed, options.overrides))
            for split in SPLITS:
                print(runs[-1].row(split, f"| {ratio:g} | {seed} |"), flush=True)
        for split in SPLITS if len(runs) > 1 else ():
            print(Compared.mean_of(runs).row(split, f"| {ratio:g} | all |"), flush=True)


@dataclass(frozen=True)
class Compared:
    """What each image of each split came to before and after recovery, the bytes of both, and the seconds it took."""

    values: Mapping[str, tuple[Values, ...]]
    nbytes: tuple[int, ...]
    seconds: float

    @classmethod
    def mean_of(cls, runs: Sequence[Compared]) -> Compared:
        def mean(split: str, place: int) -> Values:
            return np.mean([run.values[split][place] for run in runs], axis=0)

        nbytes = tuple(round(np.mean([run.nbytes[place] for run in runs])) for place in (0, 1))
        values = {split: (mean(split, 0), mean(split, 1)) for split in SPLITS}
        return cls(values, nbytes, float(np.mean([run.seconds for run in runs])))

    def row(self, split: str, start: str) -> str:
        before, after = self.values[split]
        (interval,) = paired_intervals([(before, after)])
        apart = f"{100 * (after - before).mean():+.2f} ({100 * interval.low:+.1f} … {100 * interval.high:+.1f})"
        shares = f"{100 * before.mean():.2f} | {100 * after.mean():.2f}"
        return f"{start} {split} | {shares} | {apart} | {self.nbytes[0]:,} → {self.nbytes[1]:,} | {self.seconds:.0f} |"


@dataclass(frozen=True)
class Arrived:
    """What each image of each split came to in a run, its bytes over those asked for, and its processor seconds."""

    values: Mapping[str, Values]
    nbytes: float
    over: float
    seconds: float

    @classmethod
    def mean_of(cls, runs: Sequence[Arrived]) -> Arrived:
        values = {split: np.mean([run.values[split] for run in runs], axis=0) for split in SPLITS}
        numbers = np.mean([(run.nbytes, run.over, run.seconds) for run in runs], axis=0)
        return cls(values, *map(float, numbers))

    def row(self, start: str, first: Arrived) -> str:
        cells = [f"{100 * self.values[split].mean():.2f}" for split in SPLITS]
        for split in SPLITS:
            (interval,) = paired_intervals([(first.values[split], self.values[split])])
            apart = 100 * (self.values[split] - first.values[split]).mean()
            cells.append(f"{apart:+.2f} ({100 * interval.low:+.1f} … {100 * interval.high:+.1f})")
        missed = f"{self.nbytes:,.0f}" + (f", {100 * self.over:+.1f} %" if self.over > 0.01 else "")
        return f"{start} {' | '.join(cells)} | {missed} | {self.seconds:.0f} |"


def compare_arms(arms: Sequence[str], ratios: Sequence[float], seeds: Sequence[int], overrides: list[str]) -> None:
    """Print a line for each run, and one for all seeds of an arm."""
    print(
        f"| × | seed | arm | selection | test | selection against {arms[0]} | test against it | bytes | processor s |"
    )
    print("| --: | --: | :-- | --: | --: | --: | --: | --: | --: |", flush=True)
    for ratio in ratios:
        runs: dict[str, list[Arrived]] = {arm: [] for arm in arms}
        for seed in seeds:
            for arm in arms:
                with tempfile.TemporaryDirectory() as folder:
                    runs[arm].append(arrived(Path(folder) / "run", ratio, seed, [*ARMS[arm], *overrides]))
                print(runs[arm][-1].row(f"| {ratio:g} | {seed} | {arm} |", runs[arms[0]][-1]), flush=True)
        for arm in arms if len(seeds) > 1 else ():
            first = Arrived.mean_of(runs[arms[0]])
            print(Arrived.mean_of(runs[arm]).row(f"| {ratio:g} | all | {arm} |", first), flush=True)


def arrived(run: Path, ratio: float, seed: int, settings: list[str]) -> Arrived:
    """What a run with these settings came to."""
    started = time.process_time()
    finished_run(run, ratio, seed, settings)
    seconds = time.process_time() - started
    result = json.loads((run / "run.json").read_text())["result"]
    nbytes = (run / "artifact.rcc").stat().st_size
    model = rcc.load(run / "artifact.rcc")
    values = {split: _values(model, split) for split in SPLITS}
    return Arrived(values, nbytes, nbytes / result["target_bytes"] - 1, seconds)


def finished_run(run: Path, ratio: float, seed: int, settings: list[str]) -> None:
    """Let a run write its artifact into a folder.

    Raises:
        SystemExit: it failed; says what it said.
    """
    asked = [f"target_ratio={ratio}", "export.container=file", f"seed={seed}", f"hydra.run.dir={run}"]
    with redirect_stdout(StringIO()) as said:
        code = rcc_run([*asked, *settings])
    if code not in (0, 3):
        raise SystemExit(said.getvalue())


def compared(run: Path, ratio: float, seed: int, overrides: list[str]) -> Compared:
    """A run, with its state before recovery."""
    finished_run(run, ratio, seed, ["trainer=recover", *overrides])
    after = rcc.load(run / "artifact.rcc")
    before = rcc.load_model("clip_tiny")
    state = StateStore(run / "state")
    state.load(max(state.indices()) - 1, before)
    sizes = [model_size(model, STORED_DTYPES["float16"], "zstd").nbytes for model in (before, after)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    took = next(line["value"] for line in lines if (line["stage"], line["name"]) == ("recover", "seconds"))
    values = {split: tuple(_values(model, split) for model in (before, after)) for split in SPLITS}
    return Compared(values, tuple(sizes), took)


def _values(model: Adapter, split: str) -> Values:
    splits = rcc.load_data("digits")
    return values_of(ZeroShotEvaluator().evaluate(model.eval(), splits[split], splits))["accuracy"]


if __name__ == "__main__":
    main()
