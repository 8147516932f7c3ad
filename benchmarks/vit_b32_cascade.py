"""Measures a cascade on a CLIP of the true ViT-B/32 shapes: peak memory and time, in a fresh process.

    python benchmarks/vit_b32_cascade.py
    python benchmarks/vit_b32_cascade.py --stage nullu+dare --option stage.dare.target_sparsity=0.9

Times are also given as multiples of two things measured just before and just after on the same machine: one
copy of the weights in memory, and one forward pass of eight images and eight captions. Those multiples, not the
seconds, can be compared between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "build" / "vit_b32"
RESULTS = ROOT / "build" / "benchmarks"
MEMORY_LIMIT = 4_000_000_000
LIGHT = (
    *("schedule=one_shot", "data.train=1", "data.calibration=32", "data.selection=16", "data.test=16"),
    *("eval.zero_shot.batch_size=16", "stage.alpha.num_epochs=1", "stage.alpha.repair=none"),
    *("stage.dare.solver=none", "stage.dare.allocation=uniform", "stage.dare.target_sparsity=0.7"),
    # Random weights know no digits: every step is kept whatever it does to the accuracy.
    *("gate.threshold=0.01", "gate.tries=0", "gate.on_failure=continue"),
)
"""Little evaluation around the cascade, so that what is measured is the cascade."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", default="dare+nullu+alpha", help="the cascade, as in rcc-run stage=…")
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint directory; built if it is missing")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    parser.add_argument("--option", action="append", default=[], help="a further override for rcc-run; repeatable")
    options = parser.parse_args()
    if not options.model.exists():
        subprocess.run([sys.executable, str(ROOT / "scripts/build_vit_b32.py"), str(options.model)], check=True)
    before = yardsticks(options.model)
    # The directory of the run, 2 GB of checkpoints, goes to the disk of the results and away at the end.
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output) as scratch:
        run = cascade(options.stage, options.model, Path(scratch) / "run", options.option)
    result = {"stage": options.stage, "options": options.option, "machine": machine(), **run}
    after = yardsticks(options.model)
    result["yardsticks"] = {name: statistics.median([*before[name], *after[name]]) for name in before}
    write(result, options.output / "vit_b32_cascade")


def cascade(stage: str, model: Path, directory: Path, options: list[str]) -> dict[str, Any]:
    """Run it and return seconds and peak resident bytes of the whole process and of every step."""
    light = [option for option in LIGHT if not option.startswith("stage.") or option.split(".")[1] in stage]
    arguments = [f"stage={stage}", "model=clip", f"model.path={model}", f"hydra.run.dir={directory}"]
    command = [sys.executable, "-m", "rcc.cli", *arguments, *light, *options]
    started = time.perf_counter()
    child = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=directory.parent)
    peak = watched_peak(child)
    seconds = time.perf_counter() - started
    if child.returncode:
        sys.exit(f"the cascade ended with exit code {child.returncode}: there is nothing to report.")
    return {"seconds": seconds, "peak_bytes": peak, "steps": steps(directory / "metrics.jsonl")}


def watched_peak(child: subprocess.Popen[bytes]) -> int:
    """Peak resident bytes of `child`, which runs to its end meanwhile.

    The run sets the kernel's peak back before every step to know the step's own, so it is read all the time and
    the largest counts; what the kernel says at the end is the peak since the last step.
    """
    peak = 0
    while child.poll() is None:
        try:
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            peak = max(peak, *(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
        except OSError:  # not Linux, where nothing is set back either; or it has just ended
            pass
        time.sleep(0.02)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


def steps(log: Path) -> list[dict[str, Any]]:
    """Seconds, peak memory, bytes and non-zeros of every step, from the run's metrics log."""
    found: dict[int, dict[str, Any]] = {}
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        if line["step"] and line["attempt"] is None and line["name"] in ("seconds", "peak_memory", "bytes", "nonzeros"):
            found.setdefault(line["step"], {"stage": line["stage"]})[line["name"]] = line["value"]
    return [found[index] for index in sorted(found)]


def yardsticks(model: Path, repeats: int = 3) -> dict[str, list[float]]:
    """Seconds of one copy of the weights and of one forward pass, measured in a process of their own."""
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import vit_b32_cascade as b"
    call = f"b.measure_here({str(model)!r}, {repeats})"
    done = subprocess.run([sys.executable, "-c", f"{program}; {call}"], capture_output=True, text=True, check=True)
    measured: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_here(model: str, repeats: int) -> None:
    """Print the seconds of each repeat as JSON."""
    import numpy as np
    import torch

    from rcc.models.transformers.clip import CLIPWrapper

    adapter = CLIPWrapper.load(model, device="cpu")
    image = np.zeros((224, 224, 3), dtype=np.uint8)
    batch = adapter.prepare(images=[image] * 8, texts=["a photo of the digit seven"] * 8)
    source = torch.cat([parameter.detach().flatten() for parameter in adapter.module.parameters()])
    target = torch.empty_like(source)
    seconds: dict[str, list[float]] = {"copy": [], "forward": []}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            started = time.perf_counter()
            target.copy_(source)
            copied = time.perf_counter()
            adapter.outputs(batch)
            if repeat:  # the first touches fresh pages and warms the caches
                seconds["copy"].append(copied - started)
                seconds["forward"].append(time.perf_counter() - copied)
    print(json.dumps(seconds))


def machine() -> dict[str, Any]:
    return {"platform": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version()}


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    copy, forward = result["yardsticks"]["copy"], result["yardsticks"]["forward"]
    lines = [
        f"`stage={result['stage']}` on ViT-B/32 shapes, {result['machine']['processors']} processors. One copy of the "
        f"weights takes {copy:.3f} s, one forward pass of eight images and captions {forward:.2f} s.",
        "",
        "| part | seconds | × one copy | × one forward | peak memory, GB | bytes after, MB |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    rows = [(step["stage"], step["seconds"], step["peak_memory"], step["bytes"]) for step in result["steps"]]
    rows.append(("whole process", result["seconds"], result["peak_bytes"], None))
    for name, seconds, peak, nbytes in rows:
        size = "" if nbytes is None else f"{nbytes / 1e6:.1f}"
        numbers = (f"{seconds:.2f}", f"{seconds / copy:.1f}", f"{seconds / forward:.1f}", f"{peak / 1e9:.2f}", size)
        lines.append("| " + " | ".join((name, *numbers)) + " |")
    verdict = "below" if result["peak_bytes"] < MEMORY_LIMIT else "ABOVE"
    return "\n".join([*lines, "", f"The peak is {verdict} the limit of {MEMORY_LIMIT / 1e9:.0f} GB.", ""])


def write(result: dict[str, Any], path: Path) -> None:
    path.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(result), encoding="utf-8")
    print(f"\n{table(result)}\nWritten: {path}.json, {path}.md")


if __name__ == "__main__":
    main()
