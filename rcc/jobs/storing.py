"""Store a model as an artifact is stored that exists, and say how many bytes that takes before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rcc.artifact.contents import named_tensors, steps_of
from rcc.artifact.manifest import read_manifest
from rcc.artifact.packing import Contents, pack
from rcc.artifact.write import Overhead
from rcc.jobs.deliver import manifest_metrics
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.entropy import ENTROPIES
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

RETENTION, DENSE_TEST = "retention", "dense_test"


class Storing:
    """How an artifact stores its values, and what a model takes in bytes if it is stored likewise.

    Args:
        artifact: whose dtype most values have, and whose settings say how they are coded, where they say it.

    Attributes:
        config, metrics: what its manifest says of how it was made, and of quality.
    """

    def __init__(self, artifact: Path) -> None:
        manifest = read_manifest(artifact)
        stored = Counter(entry.dtype for entry in manifest.tensors.values() if entry.dtype in STORED_DTYPES)
        self.config, self.metrics = manifest.config, manifest.metrics
        export = self.config.get("export")
        said = export.get("entropy") if isinstance(export, Mapping) else None
        self.dtype = stored.most_common(1)[0][0] if stored else "float32"
        self.entropy = said if said in ENTROPIES else "zstd"
        self.container = "file" if artifact.is_file() else "directory"
        self._files: Overhead | None = None

    def measured(self, selection: Measurement, test: Measurement, kept: float | None, data: str) -> dict[str, Any]:
        """What the manifest says of quality, measured anew: of nothing that it did not say before, so that it does not
        grow.

        Args:
            kept: the retention, where a dense model is known.
            data: the fingerprint of the data.
        """
        now = manifest_metrics(selection, kept, {"data_fingerprint": data}, test)
        same = self.metrics.get("data_fingerprint") == data
        stale = {RETENTION, *(() if same else (DENSE_TEST,))}
        then = {name: value for name, value in self.metrics.items() if name not in stale}
        return then | {name: value for name, value in now.items() if name in self.metrics}

    def expect(self, model: Adapter, scratch: Path) -> None:
        """Count the bytes of a manifest that says as much, and of the model's files, from now on."""
        self._files = Overhead(model, scratch, self.config, self.container)

    def nbytes(self, model: Adapter) -> int:
        """Bytes of the model's artifact, to within those of the digits of the metrics."""
        assert self._files is not None
        contents, (tensors, _) = Contents(), named_tensors(model.module)
        with torch.no_grad():
            parts = pack(tensors, steps_of(model.module), STORED_DTYPES[self.dtype], self.entropy, contents)
            return sum(map(len, parts)) + self._files.nbytes(model, contents, self.metrics)
