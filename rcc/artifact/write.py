"""Write an artifact atomically, a directory or one file, and forecast the bytes it takes besides its weights."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from rcc.artifact.container import CONTAINERS, MAGIC, end_of_file, pack_files, write_data
from rcc.artifact.contents import named_tensors, refuse_unstorable, steps_of
from rcc.artifact.entries import FILE_DIGITS, FileEntry
from rcc.artifact.manifest import MANIFEST, WEIGHTS, Manifest
from rcc.artifact.packing import Contents, pack
from rcc.artifact.size import ArtifactSize, directory_bytes, storage_dtype
from rcc.artifact.weights import PACKED_HEADER, checkpoint_bytes, write_packed
from rcc.atomic import PARTIAL, disk_errors, new_directory, new_file
from rcc.errors import UserError, unknown
from rcc.layers.entropy import ENTROPIES, Buffer
from rcc.models.adapter import Adapter

_FOLDERS = ("/", "~", "./", "../")
"""Beginnings of paths that are no names of the hub."""


def write_artifact(
    adapter: Adapter,
    directory: Path | str,
    dtype: str | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    entropy: str = "zstd",
    container: str = "directory",
) -> ArtifactSize:
    """Write the model to a new `directory`, atomically, and say what it takes on disk.

    Args:
        dtype: 'float32', 'float16' or 'bfloat16' for all floating-point tensors; None keeps each as it is.
        config, metrics: plain data for the manifest, which change nothing about how the artifact loads; of config what
            `shippable` keeps.
        entropy: 'zstd' codes what gets smaller by it, to be decoded at load; 'none' is faster to write and to load.
        container: 'directory', or 'file' for all of it in one file, whose manifest and other files are coded too.

    Raises:
        UserError: the directory exists or cannot be written, or the dtype or the entropy coding is unknown.
        WorkError: a weight is not finite or does not fit the dtype, a quantised one is no multiple of its step, or
            the disk is full.
    """
    storage_dtype(dtype)
    if entropy not in ENTROPIES:
        raise UserError(unknown("entropy coding", entropy, ENTROPIES))
    if container not in CONTAINERS:
        raise UserError(unknown("container", container, CONTAINERS))
    if container == "file":
        with new_file(Path(directory)) as partial:
            weights_bytes = _fill_file(adapter, partial, dtype, config, metrics, entropy)
        return ArtifactSize(weights_bytes, directory_bytes(directory))
    with new_directory(Path(directory)) as partial:
        fill_artifact(adapter, partial, dtype, config, metrics, entropy)
    weights_bytes = (Path(directory) / WEIGHTS).stat().st_size
    return ArtifactSize(weights_bytes, directory_bytes(directory))


@torch.no_grad()
def fill_artifact(
    adapter: Adapter,
    directory: Path,
    dtype: str | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    entropy: str = "zstd",
) -> None:
    """Write the artifact's files into an existing directory; files already there are vouched for as well."""
    target = storage_dtype(dtype)
    tensors, tied = _storable(adapter, target)
    adapter.save_files(directory)
    files = file_entries(directory)
    contents = Contents()
    write_packed(directory / WEIGHTS, pack(tensors, steps_of(adapter.module), target, entropy, contents))
    manifest = manifest_of(adapter, contents, tied, files, config, metrics)
    with open(directory / MANIFEST, "xb") as file:
        file.write(manifest.to_bytes())


@torch.no_grad()
def _fill_file(
    adapter: Adapter,
    path: Path,
    dtype: str | None,
    config: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    entropy: str,
) -> int:
    """Write the artifact as one file; returns the bytes of its weights' data."""
    target = storage_dtype(dtype)
    tensors, tied = _storable(adapter, target)
    files, packed = _packed_files(adapter, path.parent)
    contents = Contents()
    write_data(path, pack(tensors, steps_of(adapter.module), target, entropy, contents))
    manifest = manifest_of(adapter, contents, tied, files, config, metrics)
    data = path.stat().st_size - len(MAGIC)
    with open(path, "ab") as file:
        file.write(end_of_file(packed, manifest.to_bytes()))
    return data


def _storable(adapter: Adapter, dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, tied = named_tensors(adapter.module)
    for name, tensor in tensors.items():
        refuse_unstorable(name, tensor, dtype)
    return tensors, tied


def _packed_files(adapter: Adapter, scratch: Path) -> tuple[dict[str, FileEntry], Buffer]:
    """The manifest's entries of the adapter's files, and these as the part of an artifact's file."""
    with tempfile.TemporaryDirectory(prefix=".files-", suffix=PARTIAL, dir=scratch) as directory:
        adapter.save_files(Path(directory))
        files = file_entries(Path(directory))
        return files, pack_files({name: (Path(directory) / name).read_bytes() for name in files})


def manifest_of(
    adapter: Adapter,
    contents: Contents,
    tied: Mapping[str, str],
    files: Mapping[str, FileEntry],
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Manifest:
    """The manifest of an artifact of `adapter` whose tensors were packed as `contents` say."""
    return Manifest(
        adapter=adapter.name,
        rcc_version=_version(),
        tensors=contents.tensors,
        streams=contents.streams,
        tied=dict(tied),
        files=dict(files),
        config=shippable(config or {}),
        metrics=dict(metrics or {}),
    )


class Overhead:
    """Bytes of an artifact besides the data of its weights, exact and without writing those.

    The model's other files are written once under `scratch`, measured and removed.

    Args:
        adapter: the model; its parameters may be on the meta device.
        scratch: a directory, made if it does not exist.
        config: what an artifact's manifest says of the settings.
        container: 'directory' or 'file', see `write_artifact`.
    """

    def __init__(
        self,
        adapter: Adapter,
        scratch: Path | str,
        config: Mapping[str, Any] | None = None,
        container: str = "directory",
    ) -> None:
        self.config, self.container = config, container
        with disk_errors(Path(scratch)):
            Path(scratch).mkdir(parents=True, exist_ok=True)
            self._files, self._packed = _packed_files(adapter, Path(scratch))

    def nbytes(self, adapter: Adapter, contents: Contents, metrics: Mapping[str, Any] | None = None) -> int:
        """Bytes of an artifact, without the data of the weights that were packed as `contents` say."""
        _, tied = named_tensors(adapter.module)
        manifest = manifest_of(adapter, contents, tied, self._files, self.config, metrics).to_bytes()
        if self.container == "file":
            return len(MAGIC) + len(end_of_file(self._packed, manifest))
        return self._file_bytes + PACKED_HEADER + len(manifest)

    def dense_bytes(self, adapter: Adapter, dtype: str | None) -> int:
        """Bytes of the dense model as a plain loadable directory: what `rcc.artifact.size.dense_bytes` measures."""
        tensors, _ = named_tensors(adapter.module)
        return self._file_bytes + checkpoint_bytes(tensors, storage_dtype(dtype))

    @property
    def _file_bytes(self) -> int:
        return sum(entry.nbytes for entry in self._files.values())


def shippable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as an artifact carries them: without what belongs to one machine or one attempt.

    A path loses its folders, and `resume` is left out, so that a run in another folder, or one that was interrupted and
    resumed, writes the same bytes and tells nobody where its author keeps files.
    """
    return {key: _shippable(value) for key, value in settings.items() if key != "resume"}


def _shippable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shippable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shippable(item) for item in value]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and value.startswith(_FOLDERS):
        return PurePath(value).name or value
    return value


def file_entries(directory: Path) -> dict[str, FileEntry]:
    """The manifest's entries of the files of `directory`, by their paths in it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _entry(path) for path in paths}


def _entry(path: Path) -> FileEntry:
    with open(path, "rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()[:FILE_DIGITS])


def _version() -> str:
    try:
        return version("rcc")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
