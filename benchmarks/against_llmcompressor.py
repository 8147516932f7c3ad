"""Wanda and SparseGPT against llmcompressor: processor time, peak memory and output, vision tower of ViT-B/32 shapes.

    python benchmarks/against_llmcompressor.py --peer /path/to/environment/bin/python
    python benchmarks/against_llmcompressor.py --peer … --repeats 1 --only sparsegpt admm6

Every method prunes the 72 linear layers of the 12 blocks to 50 % zeros on 128 images, on one thread, in a process of
its own; methods take turns. benchmarks/README.md says how to make the peer's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).resolve().parent
METHODS = {
    "wanda": ("llmcompressor, Wanda", "llmcompressor_oneshot.py", "wanda"),
    "our wanda": ("dare, score=wanda, scope=row", "rcc_oneshot.py", "wanda"),
    "sparsegpt": ("llmcompressor, SparseGPT", "llmcompressor_oneshot.py", "sparsegpt"),
    "obs own": ("dare, solver=obs, solver_target=own, solver_refit=0", "rcc_oneshot.py", "sparsegpt"),
    "obs own refit": ("dare, solver=obs, solver_target=own", "rcc_oneshot.py", "sparsegpt"),
    "obs": ("dare, solver=obs", "rcc_oneshot.py", "sparsegpt"),
    "admm6": ("dare, solver=admm, 6 iterations", "rcc_oneshot.py", "sparsegpt"),
    "admm15": ("dare, solver=admm, 15 iterations", "rcc_oneshot.py", "sparsegpt"),
}
"""What each is called, its program, and which method of the peer it is compared with."""
LIKE = ("wanda", "our wanda", "sparsegpt", "obs own")
"""What solves the same problem on either side; the default, about three minutes of one core a repeat."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="the Python of the environment with llmcompressor")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(LIKE))
    parser.add_argument("--output", type=Path, default=HERE / "results", help="directory for the JSON and the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        build = f"from pathlib import Path; from pruned_tower import build; build(Path({str(model)!r}))"
        subprocess.run([sys.executable, "-c", build], cwd=HERE / "peers", check=True)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
        wanted = one(sys.executable, "rcc_oneshot.py", "dense", model, options.batch)[1]
        for repeat in range(options.repeats):
            for name in options.only:
                _, program, peer = METHODS[name]
                ours = program == "rcc_oneshot.py"
                method = name.removeprefix("our ") if ours else peer
                facts, outputs = one(sys.executable if ours else options.peer, program, method, model, options.batch)
                runs[name].append(facts | quality(outputs, wanted))
            report(runs, repeat + 1, options)


def report(runs: dict[str, list[dict[str, Any]]], repeats: int, options: argparse.Namespace) -> None:
    """Write and print what is known after so many repeats."""
    rows = {name: median(each) for name, each in runs.items()}
    facts = {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "repeats": repeats,
        "load": os.getloadavg()[0],
    }
    result = {"machine": facts, "batch": options.batch, "methods": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "against_llmcompressor.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(result), encoding="utf-8")
    print(table(result), flush=True)


def one(
    python: str | Path, program: str, method: str, model: Path, batch: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Run one method in a fresh process on one thread; what it cost, and the pruned model's outputs."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [str(python), str(HERE / "peers" / program), method, str(model), str(batch), str(out)]
        done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{program} {method} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads(out.read_text(encoding="utf-8")), load_file(out.with_suffix(".safetensors"))


def quality(outputs: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """Mean cosine of the pooled outputs to the dense model's; and E‖y − v‖² / E‖y − E[y]‖², which images that are
    alike do not flatter."""
    found = {}
    for name, dense in wanted.items():
        found[f"cosine {name}"] = float(torch.cosine_similarity(outputs[name], dense).mean())
        found[f"error {name}"] = float((outputs[name] - dense).square().sum() / (dense - dense.mean(0)).square().sum())
    return found


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number over the runs; the rest as in the first."""
    numbers = {key for key, value in runs[0].items() if isinstance(value, int | float)}
    return {key: statistics.median(run[key] for run in runs) if key in numbers else runs[0][key] for key in runs[0]}


def table(result: dict[str, Any]) -> str:
    machine, rows = result["machine"], result["methods"]
    lines = [
        f"{machine['processors']} processors, one thread, batches of {result['batch']}, "
        f"median of {machine['repeats']}, load average {machine['load']:.1f} at the end.",
        "",
        "| method | processor s | × less | zeros | cosine, error: calibration | cosine, error: held out | peak, GB |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, row in rows.items():
        title, _, peer = METHODS[name]
        less = f"{rows[peer]['processor'] / row['processor']:.2f}" if peer in rows else ""
        outputs = (f"{row[f'cosine {kind}']:.4f}, {row[f'error {kind}']:.3f}" for kind in ("seen", "held_out"))
        cells = (title, f"{row['processor']:.1f}", less, f"{row['zeros']:,.0f}", *outputs)
        lines.append("| " + " | ".join((*cells, f"{row['peak_bytes'] / 1e9:.2f}")) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
