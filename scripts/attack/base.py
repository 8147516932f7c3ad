"""Make the sound things that attacks start from: a finished run with its artifact, a checkpoint, data sets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

QUICK = (
    "debug=quick", "threads=1", "data.train=20", "data.calibration=10", "data.selection=10", "data.test=10",
    "stage=dare", "stage.dare.solver=none", "stage.dare.allocation=uniform", "stage.dare.target_sparsity=0.5",
)  # fmt: skip
"""A command line that does a whole run in about two seconds."""
QUICKER = (*QUICK, "export.entropy=none")
"""In about one, where it does not matter what the artifact holds."""


def command(*arguments: str) -> int:
    """`rcc-run` with these arguments, in this process."""
    from rcc.cli import main

    return main(list(arguments))


@cache
def scratch() -> Path:
    """A folder for what attacks start from; the caller of the program removes it."""
    return Path(mkdtemp(prefix="rcc-attack-"))


@cache
def finished_run() -> Path:
    """The directory of a run that has finished."""
    folder = scratch() / "base"
    folder.mkdir()
    with inside(folder), contextlib.redirect_stdout(io.StringIO()):
        code = command(*QUICK, "hydra.run.dir=run")
    if code != 0:
        raise SystemExit(f"the sound run that attacks start from ended with {code}")
    return folder / "run"


def artifact() -> Path:
    """An artifact as a run writes it."""
    return finished_run() / "artifact"


def checkpoint() -> Path:
    """The embedded CLIP, as any CLIPModel directory of transformers."""
    import rcc

    return Path(rcc.__file__).parent / "assets/clip_tiny"


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The working directory is `folder` for the block."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@cache
def interrupted_run() -> Path:
    """The directory of a run that ended after its last step and before it delivered an artifact."""
    folder = scratch() / "interrupted"
    shutil.copytree(finished_run(), folder)
    shutil.rmtree(folder / "artifact")
    path = folder / "run.json"
    record = json.loads(path.read_text())
    record["status"] = record["attempts"][-1]["status"] = "interrupted"
    path.write_text(json.dumps(record))
    return folder
