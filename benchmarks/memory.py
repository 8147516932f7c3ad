"""Measures the peak memory of a whole process that compresses a CLIP of the true ViT-B/32 shapes, and where it is.

    python benchmarks/memory.py
    python benchmarks/memory.py --stage dare+quant --option stage.dare.solver=admm

The run is that of `rcc-run`, from loading to the last test, in a fresh process. The kernel's own mark of the peak is
read and set back at every layer, so that each has its own; before the first stage it tells what the process
takes by itself. Accuracies of random weights mean nothing and are not reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rcc.cascade.records import Attempt, Baseline, Step, StepRecord, Summary
from rcc.memory import Meter, resident_bytes

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "build" / "vit_b32"
RESULTS = Path(__file__).parent / "results"
ADMM = "stage.dare.solver=admm"
LIGHT = (
    *(
        "schedule=one_shot",
        "data.train=1",
        "data.selection=16",
        "data.test=16",
        "eval.zero_shot.batch_size=16",
        "threads=1",
    ),
    *("gate.threshold=0.01", "gate.tries=0", "gate.on_failure=continue"),
)
"""One round, and little evaluation around the cascade, so that what is measured is the cascade."""


class Watch:
    """An observer of a run that notes the peak of every part of it, in a stage from one layer to the next."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self._begin("imports", "")

    def _begin(self, part: str, layer: str) -> None:
        self._part, self._layer, self._meter = part, layer, Meter()
        self._meter.__enter__()

    def next(self, part: str, layer: str = "") -> None:
        """What went on until now has ended, and `part` begins; or it goes on at the next layer."""
        held = resident_bytes()
        self._meter.__exit__()
        numbers = {"peak": self._meter.peak_bytes, "held_at_end": held, "seconds": self._meter.seconds}
        self.parts.append({"part": self._part, "since": self._layer, "until": layer, **numbers})
        self._begin(part, layer)

    def run_started(self, steps: Sequence[Step], finished: int) -> None:
        self.next("dense model measured, first checkpoint")

    def baseline_measured(self, baseline: Baseline) -> None:
        self.next("dense outputs")

    def step_started(self, step: Step, attempt: int, strength: float | None) -> None:
        self.next(step.label)

    def progressed(self, done: int, total: int, what: str) -> None:
        """Some stages tell of a layer before they work on it, some after: a part is what lies between two of them."""
        self.next(self._part, what)

    def attempt_finished(self, step: Step, attempt: Attempt) -> None:
        self.next(f"{step.label}, checkpoint")

    def step_finished(self, record: StepRecord) -> None:
        self.next("between the stages")

    def run_finished(self, summary: Summary) -> None:
        self.next("artifact written, loaded again and tested beside the dense model")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", default="nullu+dare+quant", help="the cascade, as in rcc-run stage=…")
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint directory; built if it is missing")
    parser.add_argument("--images", type=int, default=128, help="of the calibration split")
    parser.add_argument("--batch", type=int, default=16, help="images and captions in one batch of calibration")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    parser.add_argument("--option", action="append", default=[], help="a further override for rcc-run; repeatable")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.model.exists():
        subprocess.run([sys.executable, str(ROOT / "scripts/build_vit_b32.py"), str(options.model)], check=True)
    admm = [ADMM] if "dare" in options.stage.split("+") else []
    data = [f"data.calibration={options.images}", f"calibration.batch_size={options.batch}"]
    overrides = [f"stage={options.stage}", "model=clip", f"model.path={options.model}", *LIGHT, *admm, *data]
    overrides += options.option
    if options.child:
        watched(overrides, options.child)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    # The directory of the run, 2 GB of checkpoints, goes to the disk of the results and away at the end.
    with tempfile.TemporaryDirectory(dir=options.output) as scratch:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", scratch]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - started
    parts = json.loads(done.stdout.splitlines()[-1])
    shown = [text for text in overrides if not text.startswith("model.path")]
    machine = {"platform": platform.platform(), "processors": os.cpu_count(), "threads": 1}
    weights = (options.model / "model.safetensors").stat().st_size
    result = {"machine": machine, "overrides": shown, "weights": weights, "seconds": seconds, "parts": parts}
    text = table(result)
    (options.output / "memory.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.output / "memory.md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten: {options.output}/memory.json, {options.output}/memory.md")


def watched(overrides: list[str], directory: Path) -> None:
    """Do the run in this process, as `job=compress` does it, and print the peaks of its parts as JSON."""
    watch = Watch()
    with (directory / "output").open("w") as output, redirect_stdout(output):
        from rcc.composing.composition import composer, own
        from rcc.jobs.compression import Compression
        from rcc.jobs.deliver import deliver
        from rcc.jobs.target import target_of
        from rcc.run import read

        with composer() as configs:
            cfg = configs.compose(overrides)
            job = read(own(cfg), cfg.hydra.runtime.choices, directory, overrides)
        assert isinstance(job, Compression)
        job.set_threads()
        splits = job.data()
        watch.next("dense model loaded, calibration batches prepared")
        model = job.model()
        pipeline = job.pipeline(watch, target_of(job.settings, job.published, model, directory))
        batches = job.calibration(model, splits.calibration)
        pipeline.run(model, lambda adapter: job.measure(adapter, splits.selection, splits), batches)
        deliver(job, pipeline, model, splits)
        watch.next("end")
    print(json.dumps(watch.parts))


def table(result: dict[str, Any]) -> str:
    """The result in Markdown: the process before the cascade, then each stage, and where in it the peak is."""
    parts = result["parts"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        groups.setdefault(part["part"], []).append(part)
    highest = highest_of(parts)
    lines = [
        f"`{' '.join(result['overrides'])}`",
        "",
        f"Peak of the whole process: **{highest['peak'] / 1e9:.2f} GB**, in: {highest['part']}. The weights in float32"
        f" take {result['weights'] / 1e9:.2f} GB. {result['seconds']:.0f} s on one thread.",
        "",
        "| part | highest between | peak, GB | held at the end, GB | seconds |",
        "| :-- | :-- | --: | --: | --: |",
    ]
    for name, group in groups.items():
        top = highest_of(group)
        where = f"{top['since'] or 'its start'} – {top['until'] or 'its end'}" if len(group) > 1 else ""
        numbers = (f"{top['peak'] / 1e9:.2f}", f"{group[-1]['held_at_end'] / 1e9:.2f}")
        lines.append(f"| {name} | {where} | {' | '.join(numbers)} | {sum(part['seconds'] for part in group):.1f} |")
    return "\n".join([*lines, ""])


def highest_of(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(parts, key=lambda part: float(part["peak"]))


if __name__ == "__main__":
    main()
