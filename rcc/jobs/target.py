"""The bytes a run is asked to come out at: `target_ratio` or `target_bytes` of the config, for the whole artifact."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rcc.artifact.manifest import WEIGHTS
from rcc.artifact.size import dense_bytes, directory_bytes
from rcc.artifact.write import write_artifact
from rcc.cascade.budget import Target
from rcc.jobs.request import Request
from rcc.models.adapter import Adapter

METRICS = 700
"""Bytes by which the measurements noted after reloading lengthen the manifest, about."""


def target_of(request: Request, dense: Adapter) -> Target | None:
    """The target of this run; None where it has none.

    A ratio is that of the dense model's loadable directory in float32 to the artifact's directory.
    """
    nbytes, ratio = request.settings["target_bytes"], request.settings["target_ratio"]
    if nbytes is None and ratio is None:
        return None
    if nbytes is None:
        nbytes = round(dense_bytes(dense, "float32", request.directory) / ratio)
    return Target(nbytes, lambda model: _overhead(request, model))


def _overhead(request: Request, model: Adapter) -> int:
    """Bytes of an artifact of `model` that are no weights, by writing one."""
    with tempfile.TemporaryDirectory(prefix="trial-", dir=request.directory) as scratch:
        trial = Path(scratch) / "artifact"
        write_artifact(model, trial, dtype=request.dtype, entropy=request.entropy, config=request.settings)
        return directory_bytes(trial) - (trial / WEIGHTS).stat().st_size + METRICS
