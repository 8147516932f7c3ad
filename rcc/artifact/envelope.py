"""What an artifact takes besides the data of its weights, exactly and without writing those."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcc.artifact.contents import named_tensors
from rcc.artifact.packing import Contents
from rcc.artifact.size import storage_dtype
from rcc.artifact.weights import PACKED_HEADER, checkpoint_bytes
from rcc.artifact.write import file_entries, manifest_of
from rcc.atomic import PARTIAL, disk_errors
from rcc.models.adapter import Adapter


class Envelope:
    """The files of a model besides its weights, written once under `scratch`, measured and removed.

    Args:
        adapter: the model; its parameters may be on the meta device.
        scratch: a directory, made if it does not exist.
        config: what an artifact's manifest says of the settings.
    """

    def __init__(self, adapter: Adapter, scratch: Path | str, config: Mapping[str, Any] | None = None) -> None:
        self.config = config
        with disk_errors(Path(scratch)):
            Path(scratch).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".files-", suffix=PARTIAL, dir=scratch) as directory:
                adapter.save_files(Path(directory))
                self._files = file_entries(Path(directory))

    def nbytes(self, adapter: Adapter, contents: Contents, metrics: Mapping[str, Any] | None = None) -> int:
        """Bytes of an artifact's directory, without the data of the weights that were packed as `contents` say."""
        _, tied = named_tensors(adapter.module)
        manifest = manifest_of(adapter, contents, tied, self._files, self.config, metrics)
        return self._file_bytes + PACKED_HEADER + len(manifest.to_bytes())

    def dense_bytes(self, adapter: Adapter, dtype: str | None) -> int:
        """Bytes of the dense model as a plain loadable directory: what `rcc.artifact.size.dense_bytes` measures."""
        tensors, _ = named_tensors(adapter.module)
        return self._file_bytes + checkpoint_bytes(tensors, storage_dtype(dtype))

    @property
    def _file_bytes(self) -> int:
        return sum(entry.nbytes for entry in self._files.values())
