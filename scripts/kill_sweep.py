"""Kill a search at points spread over it, resume each, and compare with the search that nothing interrupted.

    python scripts/kill_sweep.py [<folder>] [--trials 6] [--points 20] [early_stopping=front]

Each search runs in a process of its own, forked from one that has loaded everything, and kills itself with SIGKILL at a
call that changes the disk. Prints a row a point: when it died, in which trial, and whether trials, folders, parameters
and artifacts are those of the uninterrupted search. Exits 1 if any is not. Started again in its folder, it prints what
it knows and goes on with the first point that has no row. Cost: some seconds a trial of each search, one search a point
and one more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WATCHED = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")
SEARCH = (
    *("-m", "hydra/sweeper=pareto", "debug=quick", "threads=1", "stage=choice(dare,dare+quant)"),
    *("stage.dare.solver=none", "stage.dare.allocation=uniform", "stage.dare.target_sparsity=interval(0.2,0.9)"),
    "stage.quant.bits=choice(4,6,8)",
)
"""A search that is quick, with a stage that only some trials have."""


def forked(arguments: list[str], log: Path, point: int = 0) -> tuple[int, int]:
    """Run a command line in a fork that kills itself at its call number `point`; returns its wait status and how many
    calls it made."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        count = _kill_at(point)
        from rcc.cli import main

        code = main(arguments)
        os.write(writer, str(count[0]).encode())
        sys.stdout.flush()
        os._exit(code)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    made = int(os.read(reader, 32) or b"0")
    os.close(reader)
    return status, made


def _kill_at(point: int) -> list[int]:
    """Wrap the watched calls so that number `point` never returns; returns a counter of those that were made."""
    count = [0]

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    for name in WATCHED:
        setattr(os, name, watched(getattr(os, name)))
    return count


def found(folder: Path) -> dict[str, Any]:
    """What a search left: its trials by number with parameters, state and values, its folders, the artifacts' bytes."""
    from rcc.composing.composition import composer
    from rcc.composing.space import dimensions
    from rcc.sweeps.record import read_record
    from rcc.sweeps.study import SweepStudy

    with composer() as configs:
        space = dimensions(read_record(folder).space, configs.loader)
    trials = SweepStudy(folder, "", ["maximize", "minimize"], space).trials()
    weights = {path.parts[-3]: path.read_bytes() for path in sorted(folder.glob("*/artifact/weights.safetensors"))}
    return {
        "trials": [(trial.number, trial.state.name, trial.values) for trial in trials],
        "parameters": [trial.params for trial in trials],
        "folders": sorted(path.name for path in folder.iterdir() if path.is_dir()),
        "artifacts": weights,
    }


def uninterrupted(search: list[str]) -> tuple[int, float]:
    """Run the search that nothing interrupts, or read how it was; returns how many calls it made, and its seconds.

    Raises:
        SystemExit: it failed, or the folder holds one of another search.
    """
    known = Path("whole.json")
    if known.exists():
        whole = json.loads(known.read_text())
        if whole["search"] != search:
            sys.exit("the folder holds the points of another search; name an empty one")
        return int(whole["calls"]), float(whole["seconds"])
    shutil.rmtree("whole", ignore_errors=True)
    started = time.monotonic()
    status, calls = forked([*search, "hydra.sweep.dir=whole"], Path("whole.log"))
    if status != 0:
        sys.exit(Path("whole.log").read_text()[-2000:])
    seconds = time.monotonic() - started
    known.write_text(json.dumps({"search": search, "calls": calls, "seconds": seconds}))
    return calls, seconds


def killed(search: list[str], point: int, whole: dict[str, Any]) -> dict[str, Any]:
    """Kill a search at its call number `point` and resume it, or read what came of that; returns the row's cells."""
    folder, known, log = Path(f"killed-{point}"), Path(f"killed-{point}.json"), Path(f"killed-{point}.log")
    if known.exists():
        row: dict[str, Any] = json.loads(known.read_text())
        return row
    shutil.rmtree(folder, ignore_errors=True)
    status, _ = forked([*search, f"hydra.sweep.dir={folder}"], log, point)
    assert os.WIFSIGNALED(status), f"the search was not killed, see {log}"
    where = begun(folder)
    resumed, _ = forked([f"resume={folder}"], log)
    again = found(folder)
    row = {"where": where, "ended": resumed == 0, "same": {name: again[name] == whole[name] for name in whole}}
    known.write_text(json.dumps(row))
    return row


def begun(folder: Path) -> str:
    """The last trial that a killed search began, and how far it came."""
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    if not numbers:
        return "no trial"
    run = folder / str(max(numbers)) / "run.json"
    return f"trial {max(numbers)}, {json.loads(run.read_text())['status'] if run.exists() else 'not begun'}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 1 if a resumed search is not the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, nargs="?", help="by default a new one among the temporary ones")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--points", type=int, default=20)
    asked, words = parser.parse_known_args(arguments)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="rcc-killed-"))
    folder.mkdir(parents=True, exist_ok=True)
    import optuna  # noqa: F401  loaded once, for all forks

    import rcc.jobs.compress  # noqa: F401

    os.chdir(folder)
    search = [*SEARCH, f"n_trials={asked.trials}", *words]
    calls, seconds = uninterrupted(search)
    whole = found(Path("whole"))
    print(f"uninterrupted: {asked.trials} trials, {calls} calls that change the disk, {seconds:.0f} s")
    print("killed at  in                     trials  parameters  folders  artifacts")
    alike = True
    for index in range(asked.points):
        point = 1 + (calls - 1) * (2 * index + 1) // (2 * asked.points)
        row = killed(search, point, whole)
        alike = alike and row["ended"] and all(row["same"].values())
        cells = ["equal" if row["same"][name] else "OTHER" for name in whole]
        print(f"{point:>9}  {row['where']:<21}  {cells[0]:<6}  {cells[1]:<10}  {cells[2]:<7}  {cells[3]}", flush=True)
    print("all resumed to the uninterrupted search" if alike else "some differ: see above, and the logs")
    return 0 if alike else 1


if __name__ == "__main__":
    sys.exit(main())
