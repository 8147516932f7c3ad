"""run.json: what a run is made of (code, versions, machine, seed, plan) and the attempts it took."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from rcc.atomic import write_text
from rcc.cascade.records import Step
from rcc.errors import Problems, UserError, is_whole
from rcc.limits import read_bytes
from rcc.option_types import fits, wanted
from rcc.sweeps.deaths import KEPT, kept_last

FILE = "run.json"
FORMAT = 1
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
ABANDONED = "abandoned"
"""A trial that its search stopped early: it is done, and there is no artifact."""
COMPLETED = (FINISHED, ABANDONED)
_KEYS: dict[str, Any] = {
    "status": str, "seed": int, "attempts": list[dict[str, Any]], "environment": dict[str, Any],
    "plan": list[dict[str, Any]], "data_fingerprint": str, "result": dict[str, Any], "abandoned": str,
}  # fmt: skip
PACKAGES = (
    *("rcc", "torch", "transformers", "safetensors", "hydra-core", "omegaconf", "optuna"),
    *("numpy", "scipy", "scikit-learn", "pillow", "wandb"),
)


def start_attempt(
    directory: Path | str,
    *,
    command: Sequence[str],
    seed: int,
    plan: Sequence[Step] = (),
    threads: int | None = None,
) -> dict[str, Any]:
    """Note in `directory`/run.json that an attempt starts; returns the manifest as written.

    The first attempt describes the run. A later one is appended, an earlier one that never said how it ended
    becomes 'interrupted', and the environment is noted again if it is no longer the same.

    Args:
        command: the program's arguments as typed.
        plan: the steps of the run; a later attempt may leave it out.
        threads: that compute uses; by default the processors this process may run on.

    Raises:
        UserError: run.json is there and cannot be read.
        WorkError: it cannot be written.
    """
    path = Path(directory) / FILE
    here = environment(threads)
    manifest: dict[str, Any] = {"format": FORMAT, "status": RUNNING, "seed": seed, "attempts": []}
    manifest |= {"environment": here, "plan": []}
    if path.exists():
        manifest = read_run_manifest(directory)
    for attempt in manifest["attempts"]:
        if attempt["status"] == RUNNING:
            attempt["status"] = INTERRUPTED
    attempt = {"started": _now(), "finished": None, "status": RUNNING, "command": list(command)}
    attempt[KEPT] = kept_last(Path(directory))
    if here != manifest["environment"]:
        attempt["environment"] = here
    manifest["attempts"].append(attempt)
    manifest["status"] = RUNNING
    manifest.pop("abandoned", None)  # of an attempt that was killed in between, whose question is asked again
    if plan:
        manifest["plan"] = [asdict(step) for step in plan]
    _write(path, manifest)
    return manifest


def note_data(directory: Path | str, fingerprint: str) -> None:
    """Note the checksum of the data that the run's first attempt saw.

    Raises:
        UserError: a later attempt sees other data: what it would add could not be compared with what is there.
    """
    manifest = read_run_manifest(directory)
    noted = manifest.setdefault("data_fingerprint", fingerprint)
    if noted != fingerprint:
        raise UserError(
            f"the data changed since the run in {directory} was started (checksum {noted[:12]} then, {fingerprint[:12]}"
            " now): images, captions or labels were added, removed or altered. Put them back as they were, or start a"
            " fresh run."
        )
    _write(Path(directory) / FILE, manifest)


def note_result(
    directory: Path | str, numbers: Mapping[str, float], missed: str = "", target: int | None = None, primary: str = ""
) -> None:
    """Note what the run came to, for a sweep that its process does not live to tell.

    Args:
        numbers: by name; one that is not finite is left out.
        missed: why its target in bytes was missed; empty where it was not.
        target: that target.
        primary: the metric that retention is of.
    """
    manifest = read_run_manifest(directory)
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    manifest["result"] = {"numbers": finite, "missed": missed, "target_bytes": target, "primary": primary}
    _write(Path(directory) / FILE, manifest)


def note_abandoned(directory: Path | str, reason: str) -> None:
    """Note why the run is not gone on with; `finish_attempt` is still to come."""
    _write(Path(directory) / FILE, read_run_manifest(directory) | {"abandoned": reason})


def finish_attempt(directory: Path | str, status: str) -> dict[str, Any]:
    """Note how the latest attempt ended, and with it the run: 'finished', 'abandoned', 'failed' or
    'interrupted'.

    Returns the manifest.
    """
    problems = Problems(FILE)
    problems.choice("status", status, (FINISHED, ABANDONED, FAILED, INTERRUPTED))
    problems.done()
    manifest = read_run_manifest(directory)
    manifest["attempts"][-1] |= {"finished": _now(), "status": status}
    manifest["status"] = status
    _write(Path(directory) / FILE, manifest)
    return manifest


def read_run_manifest(directory: Path | str) -> dict[str, Any]:
    """The content of `directory`/run.json.

    Raises:
        UserError: there is none, or it is not one that this version wrote.
    """
    path = Path(directory) / FILE
    advice = "Give the directory of a run, such as outputs/<date>/<time>."
    try:
        manifest = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{directory} holds no {FILE}: it is not the directory of a run. {advice}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}). {advice}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise UserError(f"{path} has format {found}; this version reads format {FORMAT}. {advice}")
    if fault := _fault(manifest):
        raise UserError(f"{path} is damaged: {fault}. {advice}")
    return manifest


def _fault(manifest: dict[str, Any]) -> str:
    """What it lacks of what every attempt writes, or has in another type than it is read in; empty where nothing."""
    found = {"attempts": [], "environment": {}} | manifest
    for key, kind in _KEYS.items():
        if key in found and not fits(found[key], kind):
            return f"'{key}' is not {wanted(kind)}"
    told = all(isinstance(each.get("status"), str) for each in found["attempts"])
    threads = found["environment"].get("threads")
    whole = "status" in found and found["attempts"] and told and is_whole(threads) and threads > 0
    return "" if whole else "it lacks its attempts, their status or the run's environment"


def environment(threads: int | None = None) -> dict[str, Any]:
    """Code, versions and machine, without the names of users, hosts or directories."""
    return {
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "cpu": _processor(),
        "threads": threads or _available_processors(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def git_state(directory: Path) -> dict[str, Any] | None:
    """The commit `directory` was checked out from and whether tracked files differ from it.

    None without git, and where the files are not under version control themselves: an environment inside
    somebody's repository is not that repository's code.
    """
    if _git(directory, "ls-files", "--error-unmatch", ".") is None:
        return None
    commit = _git(directory, "rev-parse", "HEAD")
    changed = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "changed": bool(changed)}


def _git(directory: Path, *arguments: str) -> str | None:
    """The output of git; None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _available_processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")  # several runs may start in one second


def _write(path: Path, manifest: dict[str, Any]) -> None:
    write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
