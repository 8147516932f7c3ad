"""Record what a run hands over: the artifact, its bytes beside dense ones, both models on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rcc.cascade.records import TargetOutcome
from rcc.measurement import Difference, Measurement


@dataclass(frozen=True)
class Delivery:
    """The facts of a written artifact.

    Attributes:
        artifact: the directory as the user would type it.
        dtype: of the values it stores ('float16').
        nbytes: bytes of the directory on disk.
        dense_bytes: bytes on disk of the dense loadable directory, by dtype ('float32', 'float16').
        dense, compressed: the test split, on the dense model and on the model reloaded from the artifact.
        retention: of the primary metric on the test split; 1.0 is all of it.
        differences: from dense to compressed, by metric.
        again: the command line that measures the artifact again as it was measured here.
        target: the bytes that were asked for, and what the cascade made of it; None where none were.
    """

    artifact: str
    dtype: str
    nbytes: int
    dense_bytes: Mapping[str, int]
    dense: Measurement
    compressed: Measurement
    retention: float
    differences: Mapping[str, Difference]
    again: str
    target: TargetOutcome | None = None
