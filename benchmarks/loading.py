"""Measure the processor time of `rcc.load`, beside that of another checkout of the project where one is given.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--before <checkout>] [--runs 41]
    OMP_NUM_THREADS=1 python benchmarks/loading.py --peer <checkpoint directory of a CLIP> --runs 7

Two artifacts are written and loaded again and again: the embedded CLIP at 90 % zeros, and a CLIP of 12 + 12 thin
layers, which has many tensors of few bytes. Checkouts take turns, each in a process of its own that has loaded once
before, so that imports do not count and a machine that slows down slows both.

With --peer the checkpoint is written as an artifact in float32 without entropy coding, and three ways take turns in one
process: transformers' from_pretrained with its processor, `rcc.load`, and that without verifying, each with one look at
every value, which transformers leaves in its file until then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

ROOT = Path(__file__).parents[1]
WORKER = """
import sys
from time import process_time
import rcc
for line in sys.stdin:
    begin = process_time()
    rcc.load(line.strip())
    print(process_time() - begin, flush=True)
"""


def write_artifacts(folder: Path) -> dict[str, Path]:
    """The two artifacts, by what they hold."""
    import rcc
    from rcc.artifact.write import write_artifact
    from rcc.models.registry import load_model
    from rcc.stages.base import StageContext
    from rcc.training.architecture import Architecture, new_clip

    pruned = load_model("clip_tiny", device="cpu")
    rcc.DARECompressor(target_sparsity=0.9).apply(pruned, StageContext())
    sizes = Architecture(hidden=64, mlp=128, heads=4, vision_layers=12, text_layers=12, projection=64)
    models = {"embedded CLIP, 90 % zeros": pruned, "CLIP of 24 thin layers": new_clip(sizes, ["a digit"], seed=0)}
    found = {}
    for place, (name, adapter) in enumerate(models.items()):
        found[name] = folder / str(place)
        write_artifact(adapter, found[name], dtype="float16")
    return found


class Worker:
    """A process that loads with the code of one checkout."""

    def __init__(self, checkout: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-P", "-c", WORKER]  # -P: not the code in the current directory
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self, artifact: Path) -> float:
        """Processor seconds of one load."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(artifact, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def beside_transformers(checkpoint: Path, runs: int) -> None:
    """Print processor time of a load with a look at every value, of transformers and ours."""
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    import rcc

    def looked_at(module: torch.nn.Module) -> None:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.sum()

    def of_transformers() -> None:
        AutoTokenizer.from_pretrained(checkpoint)
        CLIPImageProcessorPil.from_pretrained(checkpoint)
        looked_at(CLIPModel.from_pretrained(checkpoint))

    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "artifact"
        rcc.save(rcc.load_model("clip", path=checkpoint, device="cpu"), artifact, dtype="float32", entropy="none")
        ways: dict[str, Callable[[], None]] = {
            "transformers": of_transformers,
            "rcc.load": lambda: looked_at(rcc.load(artifact).module),
            "rcc.load, verify=False": lambda: looked_at(rcc.load(artifact, verify=False).module),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs + 1):
            for name, way in ways.items():
                begin = process_time()
                way()
                taken[name].append(process_time() - begin)
    base = median(taken["transformers"][1:])
    print("| way | s | of transformers |\n| :-- | --: | --: |")
    for name, times in taken.items():
        print(f"| {name} | {median(times[1:]):.2f} | {median(times[1:]) / base:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--peer", type=Path, help="a checkpoint to load beside transformers")
    options = parser.parse_args()
    if options.peer:
        beside_transformers(options.peer, options.runs)
        return
    checkouts = {"now": ROOT} | ({"before": options.before.resolve()} if options.before else {})
    workers = {name: Worker(checkout) for name, checkout in checkouts.items()}
    print(f"| artifact | {' | '.join(f'{name}, ms' for name in checkouts)} |")
    print(f"| :-- | {' | '.join('--:' for _ in checkouts)} |")
    with tempfile.TemporaryDirectory() as folder:
        for title, artifact in write_artifacts(Path(folder)).items():
            taken: dict[str, list[float]] = {name: [] for name in workers}
            for worker in workers.values():
                worker.seconds(artifact)
            for _ in range(options.runs):
                for name, worker in workers.items():
                    taken[name].append(1000 * worker.seconds(artifact))
            print(f"| {title} | {' | '.join(f'{median(times):.1f}' for times in taken.values())} |")
    for worker in workers.values():
        worker.close()
    print(f"\nMedians of {options.runs} loads.")


if __name__ == "__main__":
    main()
