"""Runs a small cascade in forked children that kill themselves at chosen system calls; a program, not a test.

    python killed_run.py <folder>

Children are forked before torch has computed anything, so that each starts from the same clean state in
milliseconds. The child for point k sends itself SIGKILL at the k-th call that changes the disk (write, fsync,
rename, unlink, mkdir); a second child then resumes. One JSON line per point goes to stdout.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from known_stages import Erase, Factor, Noise
from torch import nn

from rcc.artifact.write import write_artifact
from rcc.atomic import clean_leftovers
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.measurement import Measurement, Metric
from rcc.models.module import ModuleAdapter

WATCHED = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


def build() -> ModuleAdapter:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12))
    return ModuleAdapter(module, outputs=lambda batch: {"out": module(batch["input"])})


def validate(adapter: ModuleAdapter) -> Measurement:
    """A metric that every step passes but the last attempt of 'erase', which must be softened."""
    share = torch.count_nonzero(adapter.module[0].weight if hasattr(adapter.module[0], "weight") else 0).item() / 96
    return Measurement((Metric("share", 0.5 + share / 2),), "share")


def cascade(directory: Path) -> None:
    stages = [Noise(0.3), Erase(0.15), Noise(0.2, "again"), Factor()]
    pipeline = RCCPipeline(stages, schedule=Schedule(rounds=2), directory=directory / "state", seed=7)
    adapter = build()
    adapter.eval()
    pipeline.run(adapter, validate, resume=True)
    clean_leftovers(directory)
    if not (directory / "artifact").exists():
        write_artifact(adapter, directory / "artifact", dtype="float16")


def kill_at(point: int) -> list[int]:
    """Wrap the watched calls so that number `point` never returns; returns a counter of the calls made."""
    count = [0]

    def watched(original):
        def call(*arguments, **options):
            count[0] += 1
            if count[0] == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    for name in WATCHED:
        setattr(os, name, watched(getattr(os, name)))
    return count


def child(directory: Path, point: int = 0) -> tuple[int, int]:
    """Run the cascade in a fork, killed at `point` if that is not 0. Returns its wait status and its calls."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = kill_at(point)
        try:
            cascade(directory)
            os.write(writer, str(count[0]).encode())
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    calls = int(os.read(reader, 32) or 0)
    os.close(reader)
    return status, calls


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "whole").mkdir()
    status, calls = child(folder / "whole")
    assert status == 0, "the uninterrupted run failed"
    expected = (folder / "whole/artifact/weights.safetensors").read_bytes()
    for point in range(1, calls + 1):
        directory = folder / f"killed-{point}"
        directory.mkdir()
        killed, _ = child(directory, point)
        resumed, _ = child(directory)
        weights = directory / "artifact/weights.safetensors"
        print(
            json.dumps(
                {
                    "point": point,
                    "killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL,
                    "resumed": resumed == 0,
                    "same": weights.exists() and weights.read_bytes() == expected,
                    "left": sorted(path.name for path in directory.rglob("*") if path.name.startswith(".")),
                }
            )
        )


if __name__ == "__main__":
    main()
