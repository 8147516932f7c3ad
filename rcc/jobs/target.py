"""Read the target in bytes of a run, `target_ratio` or `target_bytes`, for the whole artifact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcc.artifact.packing import Contents
from rcc.artifact.write import Overhead
from rcc.cascade.bytes.balance import SPLITS
from rcc.cascade.bytes.budget import Target
from rcc.errors import Problems
from rcc.jobs.deliver import manifest_metrics
from rcc.jobs.request import Request
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

THIRD = 1 / 3
"""A retention of as many digits as most have."""


def check_target(settings: Mapping[str, Any], found: Problems) -> None:
    """Note what is wrong with `target_ratio` and `target_bytes`."""
    ratio, nbytes = settings["target_ratio"], settings["target_bytes"]
    found.check(
        ratio is None or (type(ratio) in (int, float) and math.isfinite(ratio) and ratio >= 1),
        f"target_ratio is {ratio}; it must be a number ≥ 1: how many times smaller than the dense model.",
    )
    whole = type(nbytes) is int or (type(nbytes) is float and nbytes.is_integer())
    found.check(
        nbytes is None or (whole and nbytes >= 1), f"target_bytes is {nbytes}; it must be a whole number ≥ 1, in bytes."
    )
    found.choice("target_split", settings["target_split"], SPLITS)
    found.check(
        None in (ratio, nbytes),
        "target_ratio and target_bytes are both given; one of them says how small the artifact is to be.",
    )


def target_of(request: Request, dense: Adapter, scratch: Path, data: Mapping[str, Any] | None = None) -> Target | None:
    """The target of this run; None where it has none.

    A ratio is that of the dense model's loadable directory in float32 to the artifact's directory.

    Args:
        dense: the dense model; its parameters may be on the meta device.
        scratch: where small files may be written for a moment.
        data: what the manifest will note of the data, see `provenance`.
    """
    nbytes, ratio = request.settings["target_bytes"], request.settings["target_ratio"]
    if nbytes is None and ratio is None:
        return None
    files = Overhead(dense, scratch, request.settings)

    def overhead(model: Adapter, contents: Contents, baseline: Measurement) -> int:
        metrics = manifest_metrics(baseline, THIRD, data or {}, baseline, baseline)
        return files.nbytes(model, contents, metrics)

    wanted = int(nbytes) if ratio is None else round(files.dense_bytes(dense, "float32") / ratio)
    return Target(wanted, overhead, request.settings["target_split"])
