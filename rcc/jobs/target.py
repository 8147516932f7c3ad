"""Make the target in bytes of a run, `target_ratio` or `target_bytes`, for the whole artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcc.artifact.packing import Contents
from rcc.artifact.write import Overhead
from rcc.cascade.bytes.budget import Target
from rcc.jobs.deliver import manifest_metrics
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

ANY_RETENTION = 1 / 3
"""Stands for a retention not yet known where the manifest's bytes are estimated: it has as many digits as most."""


def target_of(
    settings: Mapping[str, Any],
    published: Mapping[str, Any],
    dense: Adapter,
    scratch: Path,
    data: Mapping[str, Any] | None = None,
) -> Target | None:
    """The target of this run; None where it has none.

    A ratio is that of the dense model's loadable directory in float32 to the artifact, a directory or a file.

    Args:
        settings: the run's.
        published: those that the manifest will carry.
        dense: the dense model; its parameters may be on the meta device.
        scratch: where small files may be written for a moment.
        data: what the manifest will note of the data, see `provenance`.
    """
    nbytes, ratio = settings["target_bytes"], settings["target_ratio"]
    if nbytes is None and ratio is None:
        return None
    files = Overhead(dense, scratch, published, settings["export"]["container"])

    def overhead(model: Adapter, contents: Contents, baseline: Measurement) -> int:
        metrics = manifest_metrics(baseline, ANY_RETENTION, data or {}, baseline, baseline)
        return files.nbytes(model, contents, metrics)

    wanted = int(nbytes) if ratio is None else round(files.dense_bytes(dense, "float32") / ratio)
    return Target(wanted, overhead, settings["target_split"])
