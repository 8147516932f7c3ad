"""Runs a small cascade in forked children that kill themselves at chosen system calls; a program, not a test.

    python -m toys.killed_run <folder> [<target in bytes> | recovery [<points>]]

Children are forked before torch has computed anything, so that each starts from the same clean state in
milliseconds. The child for point k sends itself SIGKILL at the k-th call that changes the disk (write, fsync,
rename, unlink, mkdir); a second child then resumes. One JSON line per point goes to stdout. With a target, the
cascade balances it and does its last round again. With recovery it trains what an erasure left, which the gate refuses
at first. Given a number of points, so many are spread over all calls.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # which optimisers import when they are first made: before the forks, once for all
from torch import nn
from toys.stages import Cut, Erase, Factor, Noise, Thin

from rcc.artifact.write import write_artifact
from rcc.atomic import clean_leftovers
from rcc.cascade.bytes.budget import Target
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.measurement import Measurement, Metric
from rcc.models.own.module import ModuleAdapter
from rcc.stages.recover import Recovery

RECOVERY, THRESHOLD = "recovery", 0.84
WATCHED = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


def build(inputs: int = 6) -> ModuleAdapter:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 12))
    return ModuleAdapter(module, outputs=lambda batch: {"out": module(batch["input"])})


def validate(adapter: ModuleAdapter) -> Measurement:
    """A metric that every step passes but the last attempt of 'erase', which must be softened."""
    share = torch.count_nonzero(adapter.module[0].weight if hasattr(adapter.module[0], "weight") else 0).item() / 96
    return Measurement((Metric("share", 0.5 + share / 2),), "share")


def untargeted(directory: Path) -> tuple[RCCPipeline, ModuleAdapter]:
    stages = [Noise(0.3), Erase(0.15), Noise(0.2, "again"), Factor()]
    return RCCPipeline(stages, schedule=Schedule(rounds=2), directory=directory / "state", seed=7), build()


def targeted(directory: Path, nbytes: int) -> tuple[RCCPipeline, ModuleAdapter]:
    pipeline = RCCPipeline(
        [Cut(), Thin()],
        performance_threshold=0.01,
        directory=directory / "state",
        seed=7,
        target=Target(nbytes),
    )
    return pipeline, build(64)


def recover(directory: Path) -> tuple[RCCPipeline, ModuleAdapter]:
    """Run a cascade whose first step is judged after its recovery, undone, and done again softer."""
    adapter = build()
    drawn = torch.Generator().manual_seed(3)
    batches = [{"input": torch.randn(16, 6, generator=drawn)} for _ in range(5)]
    with torch.no_grad():
        wanted = adapter.module(batches[0]["input"])

    def closeness(adapter: ModuleAdapter) -> Measurement:
        apart = (adapter.module(batches[0]["input"]) - wanted).square().mean().item()
        return Measurement((Metric("closeness", 1 / (1 + 10 * apart)),), "closeness")

    stages = [Erase(0.4), Recovery(epochs=2, learning_rate=1e-2, warmup=0, checkpoint_every=3)]
    pipeline = RCCPipeline(stages, performance_threshold=THRESHOLD, directory=directory / "state", seed=7)
    pipeline.run(adapter.eval(), closeness, calibration=batches[:1], training=batches[1:], resume=True)
    return pipeline, adapter


def cascade(directory: Path, kind: str = "") -> int:
    """Run to the end; returns how often the last round, or with recovery the first step, was done again."""
    if kind == RECOVERY:
        pipeline, adapter = recover(directory)
    else:
        pipeline, adapter = targeted(directory, int(kind)) if kind else untargeted(directory)
        pipeline.run(adapter.eval(), validate, resume=True)
    clean_leftovers(directory)
    if not (directory / "artifact").exists():
        write_artifact(adapter, directory / "artifact", dtype="float16")
    summary = pipeline.get_pipeline_summary()
    if kind == RECOVERY:
        return len(summary.records[0].attempts) - 1
    return 0 if summary.target is None else summary.target.repeats


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


def child(directory: Path, kind: str, point: int = 0) -> tuple[int, int, int]:
    """Run the cascade in a fork, killed at `point` if that is not 0. Returns its wait status, its calls and repeats."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = kill_at(point)
        try:
            repeats = cascade(directory, kind)
            os.write(writer, f"{count[0]} {repeats}".encode())
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    calls, repeats = map(int, (os.read(reader, 32) or b"0 0").split())
    os.close(reader)
    return status, calls, repeats


def main() -> None:
    folder = Path(sys.argv[1])
    kind = sys.argv[2] if len(sys.argv) > 2 else ""
    (folder / "whole").mkdir()
    status, calls, repeats = child(folder / "whole", kind)
    assert status == 0, "the uninterrupted run failed"
    expected = (folder / "whole/artifact/weights.safetensors").read_bytes()
    points = int(sys.argv[3]) if len(sys.argv) > 3 else calls
    for point in sorted({1 + number * (calls - 1) // max(1, points - 1) for number in range(points)}):
        directory = folder / f"killed-{point}"
        directory.mkdir()
        killed, *_ = child(directory, kind, point)
        resumed, _, repeated = child(directory, kind)
        weights = directory / "artifact/weights.safetensors"
        print(
            json.dumps(
                {
                    "point": point,
                    "killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL,
                    "resumed": resumed == 0,
                    "repeats": repeats,
                    "repeated_alike": repeated == repeats,
                    "same": weights.exists() and weights.read_bytes() == expected,
                    "left": sorted(path.name for path in directory.rglob("*") if path.name.startswith(".")),
                }
            )
        )


if __name__ == "__main__":
    main()
