"""Measures what recovery gives back: the same run of the digits CLIP before and after its last step, at equal bytes.

    OMP_NUM_THREADS=1 python benchmarks/recovery.py
    OMP_NUM_THREADS=1 python benchmarks/recovery.py trainer=distill schedule.rounds=3 --ratios 80 --seeds 0 1 2

Each run is `rcc-run target_ratio=<ratio> trainer=recover export.container=file` with a seed of its own. What its state
held before recovery is the same run without it: the same zeros and steps, and as many bytes to within the table's last
column. Both are measured on the selection split, which chose the epoch, and on the test split, which chose nothing;
differences are paired over the same images, with their 95 % intervals. The dense model is the embedded one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import rcc
from rcc.artifact.size import model_size
from rcc.cascade.state import StateStore
from rcc.cli import main as rcc_run
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.layers.encoding import STORED_DTYPES
from rcc.measurement import Measurement
from rcc.measurement.paired import differences
from rcc.models.adapter import Adapter


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ratios", type=float, nargs="+", default=[30, 50, 65, 80], help="target ratios")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs")
    parser.add_argument("overrides", nargs="*", help="more settings, as rcc-run takes them")
    options = parser.parse_args()
    print("| × | seed | split | before | after | difference (95 %) | bytes before → after | s |")
    print("| --: | --: | :-- | --: | --: | --: | --: | --: |", flush=True)
    for ratio in options.ratios:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                for row in rows(Path(folder) / "run", ratio, seed, options.overrides):
                    print(row, flush=True)


def rows(run: Path, ratio: float, seed: int, overrides: list[str]) -> list[str]:
    """The lines of the table for one run, one a split."""
    asked = [
        f"target_ratio={ratio}",
        "trainer=recover",
        "export.container=file",
        f"seed={seed}",
        f"hydra.run.dir={run}",
    ]
    with redirect_stdout(StringIO()) as said:
        code = rcc_run([*asked, *overrides])
    if code not in (0, 3):
        raise SystemExit(said.getvalue())
    after = rcc.load(run / "artifact.rcc")
    before = rcc.load_model("clip_tiny")
    state = StateStore(run / "state")
    state.load(max(state.indices()) - 1, before)
    sizes = [model_size(model, STORED_DTYPES["float16"], "zstd").nbytes for model in (before, after)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    took = next(line["value"] for line in lines if (line["stage"], line["name"]) == ("recover", "seconds"))
    found = []
    for split in ("selection", "test"):
        measured = [_measured(model, split) for model in (before, after)]
        apart = differences(measured[1], measured[0])["accuracy"]
        assert apart.interval is not None  # accuracy is a mean over the images
        low, high = apart.interval.low, apart.interval.high
        shares = [f"{100 * each.main.value:.2f}" for each in measured]
        found.append(
            f"| {ratio:g} | {seed} | {split} | {shares[0]} | {shares[1]} | {100 * apart.value:+.2f} ({100 * low:+.1f} …"
            f" {100 * high:+.1f}) | {sizes[0]:,} → {sizes[1]:,} | {took:.0f} |"
        )
    return found


def _measured(model: Adapter, split: str) -> Measurement:
    splits = rcc.load_data("digits")
    return ZeroShotEvaluator().evaluate(model.eval(), splits[split], splits)


if __name__ == "__main__":
    main()
