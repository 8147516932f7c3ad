"""Measures exact magnitude pruning of ViT-B/32's matrices against torch.nn.utils.prune and a memory copy.

    python benchmarks/pruning.py
    python benchmarks/pruning.py --quick --output build/benchmarks

Ours and the peers take turns in one process, on the same random weights. Before every turn the weights are put
back by a copy, and that copy, one read and one write of all of them into memory that is there already, is the
yardstick. Seconds of the clock need idle cores; the processor seconds of one thread do not. Peak memory is that of
one turn in a fresh process that holds the weights and nothing else.
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
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as peer

from rcc.ops.cut import find_cut
from rcc.ops.scores import Scores
from rcc.ops.select import thresholds_of_smallest

RESULTS = Path(__file__).parent / "results"
SHARE = 0.9
Shapes = list[tuple[int, int]]


def vit_b32() -> Shapes:
    """The weights of the 146 linear layers of openai/clip-vit-base-patch32: both towers and both projections."""
    shapes: Shapes = []
    for width in (768, 512):
        shapes += 12 * [*4 * [(width, width)], (4 * width, width), (width, 4 * width)]
    return [*shapes, (512, 768), (512, 512)]


def quick() -> Shapes:
    return [(96, 384), (384, 96), (128, 128)]


def count_of(tensors: Sequence[Tensor]) -> int:
    return round(SHARE * sum(tensor.numel() for tensor in tensors))


def ours_globally(weights: list[Tensor]) -> None:
    for weight, threshold in zip(weights, thresholds_of_smallest(weights, count_of(weights)), strict=True):
        threshold.zero_(weight)


def ours_by_layer(weights: list[Tensor]) -> None:
    for weight in weights:
        ours_globally([weight])


def selection_alone(weights: list[Tensor]) -> None:
    find_cut(Scores.of(weights), count_of(weights))


def peer_globally(weights: list[Tensor]) -> list[nn.Module]:
    modules = modules_of(weights)
    places = [(module, "weight") for module in modules]
    peer.global_unstructured(places, pruning_method=peer.L1Unstructured, amount=count_of(weights))
    return modules


def peer_by_layer(weights: list[Tensor]) -> list[nn.Module]:
    modules = modules_of(weights)
    for module, weight in zip(modules, weights, strict=True):
        peer.l1_unstructured(module, "weight", amount=count_of([weight]))
    return modules


def modules_of(weights: list[Tensor]) -> list[nn.Module]:
    """Linear layers around the weights themselves, without a copy."""
    modules: list[nn.Module] = []
    for weight in weights:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        module.weight = nn.Parameter(weight)
        modules.append(module)
    return modules


OURS: dict[str, Callable[[list[Tensor]], Any]] = {
    "thresholds_of_smallest, global": ours_globally,
    "thresholds_of_smallest, per layer": ours_by_layer,
    "find_cut alone, global": selection_alone,
}
PEERS: dict[str, Callable[[list[Tensor]], Any]] = {
    "torch global_unstructured": peer_globally,
    "torch l1_unstructured, per layer": peer_by_layer,
}
AGAINST = {
    "thresholds_of_smallest, global": "torch global_unstructured",
    "thresholds_of_smallest, per layer": "torch l1_unstructured, per layer",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small matrices and few repeats: that it runs, no more")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--repeats", type=int, default=15, help="turns of ours")
    parser.add_argument("--peer-repeats", type=int, default=3, help="turns of each peer, about 20 s and 7 GB each")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    parser.add_argument("--peak-of", choices=[*OURS, *PEERS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shapes = quick() if options.quick else vit_b32()
    if options.peak_of:
        print(json.dumps(peak_here(shapes, options.peak_of)))
        return
    repeats, peer_repeats = (2, 1) if options.quick else (options.repeats, options.peer_repeats)
    result = {
        "machine": machine(options.threads),
        "values": sum(rows * columns for rows, columns in shapes),
        "matrices": len(shapes),
        "pruned": SHARE,
        # First, while this process is small: the kernel has a child's peak begin at what its parent holds.
        "peak_bytes": {name: peak_in_fresh_process(name, options) for name in (*OURS, *PEERS)},
        **take_turns(shapes, repeats, peer_repeats),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    text = table(result)
    (options.output / "pruning.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (options.output / "pruning.md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten: {options.output}/pruning.json, {options.output}/pruning.md")


def random_weights(shapes: Shapes) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.empty(shape).normal_(0, 0.02, generator=generator) for shape in shapes]


def take_turns(shapes: Shapes, repeats: int, peer_repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by the clock and of the processor of every turn of the copy, of ours and of the peers, interleaved.

    The first turns of ours, which start threads and touch fresh memory, are not counted.
    """
    original = random_weights(shapes)
    weights = [weight.clone() for weight in original]
    ways: dict[str, Callable[[list[Tensor]], Any]] = {"copy": partial(copy_into, original=original), **OURS, **PEERS}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}

    def turn(name: str) -> list[Any]:
        clock, processor = time.perf_counter(), time.process_time()
        modules: list[Any] = ways[name](weights)
        cpu[name].append(time.process_time() - processor)
        wall[name].append(time.perf_counter() - clock)
        return modules

    for repeat in range(repeats + 1):
        for name in (*OURS, *PEERS) if 0 < repeat <= peer_repeats else OURS:
            turn("copy")
            modules = turn(name)
            check(weights if name in OURS else [module.weight for module in modules], name)
            del modules  # let go outside of anyone's time
        if not repeat:
            for measured in (*wall.values(), *cpu.values()):
                measured.clear()
    return {"seconds": wall, "processor_seconds": cpu}


def copy_into(weights: list[Tensor], original: list[Tensor]) -> None:
    for weight, values in zip(weights, original, strict=True):
        weight.copy_(values)


def check(weights: list[Tensor], name: str) -> None:
    """Stop where a way did not prune what it was to prune; per layer the counts may differ by the rounding."""
    if name == "find_cut alone, global":
        return
    zeros = sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights)
    wanted = sum(count_of([weight]) for weight in weights) if "per layer" in name else count_of(weights)
    if zeros != wanted:
        sys.exit(f"{name} left {zeros} zeros in place of {wanted}: there is nothing to report.")


def peak_in_fresh_process(name: str, options: argparse.Namespace) -> dict[str, int]:
    command = [sys.executable, __file__, "--peak-of", name, "--threads", str(options.threads)]
    command += ["--quick"] if options.quick else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return measured


def peak_here(shapes: Shapes, name: str) -> dict[str, int]:
    """Peak resident bytes of this process after one turn, and how far that is above what it held before."""
    weights = random_weights(shapes)
    before = psutil.Process().memory_info().rss
    (OURS | PEERS)[name](weights)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"whole": peak, "growth": max(0, peak - before)}


def machine(threads: int) -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    here = result["machine"]
    wall, cpu = (
        {name: statistics.median(values) for name, values in result[kind].items()}
        for kind in ("seconds", "processor_seconds")
    )
    lines = [
        f"{result['pruned']:.0%} of {result['values']:,} float32 values in {result['matrices']} matrices pruned by "
        f"magnitude; {here['processor']}, {here['cores']} cores, {here['threads']} threads, torch {here['torch']}, "
        f"load average {here['load_before']:.1f} at the start. Medians of {len(result['seconds'][next(iter(OURS))])} "
        f"turns of ours and {len(result['seconds'][next(iter(PEERS))])} of the peers.",
        "",
        "| what | seconds | × copy | × faster than peer | processor s | × copy | × faster than peer "
        "| peak above the weights, GB | whole process, GB |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in wall:
        cells = [name]
        for median in (wall, cpu):
            cells += [f"{median[name]:.4f}", f"{median[name] / median['copy']:.1f}"]
            cells.append(f"{median[AGAINST[name]] / median[name]:.0f}" if name in AGAINST else "")
        peak = result["peak_bytes"].get(name)
        cells += [f"{peak[kind] / 1e9:.2f}" if peak else "" for kind in ("growth", "whole")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
