"""Embeddings on disk: a safetensors file each, complete or not there, read only if its bytes are those written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rcc.atomic import clean_leftovers, disk_errors, write_file

NAME, ABOUT = "embeddings", "about"
SUFFIX = ".safetensors"
LOCK = ".lock"


class EmbeddingFiles:
    """A directory of embeddings by key. It grows with every model and data set; any file may be deleted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, key: str) -> Tensor | None:
        """(N, D) float32 as written under `key`; None where there is no file of it, or a damaged one.

        Raises:
            UserError: the directory cannot be made or looked into, said before anything is encoded for it.
        """
        path = self._path(key)
        with disk_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                return None
        try:
            with safe_open(path, "pt") as file:
                about = (file.metadata() or {}).get(ABOUT)
                embeddings: Tensor = file.get_tensor(NAME).clone()
        except (SafetensorError, OSError):
            return None
        return embeddings if about == _about(key, embeddings) else None

    def write(self, key: str, embeddings: Tensor) -> None:
        """Write or replace what is kept under `key`.

        Raises:
            UserError: the directory cannot be written to.
            WorkError: the disk is full or fails.
        """
        with disk_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self.directory / LOCK):
                clean_leftovers(self.directory)
                content = save({NAME: embeddings.contiguous()}, metadata={ABOUT: _about(key, embeddings)})
                write_file(self._path(key), content)

    def _path(self, key: str) -> Path:
        return self.directory / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"


def _about(key: str, embeddings: Tensor) -> str:
    """The metadata of a file of embeddings, in one entry, since safetensors does not keep the order of several."""
    checksum = hashlib.sha256(embeddings.contiguous().numpy().data).hexdigest()
    return f"{key}; {embeddings.dtype}, SHA-256 {checksum}"
