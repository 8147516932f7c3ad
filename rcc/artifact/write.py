"""Writing an artifact: a directory that loads to the same outputs, there as a whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from rcc.artifact.contents import named_tensors, refuse_unstorable, steps_of
from rcc.artifact.entries import FILE_DIGITS, FileEntry
from rcc.artifact.manifest import MANIFEST, WEIGHTS, Manifest
from rcc.artifact.packing import Contents, pack
from rcc.artifact.size import ArtifactSize, directory_bytes, storage_dtype
from rcc.artifact.weights import write_packed
from rcc.atomic import new_directory
from rcc.errors import UserError, unknown
from rcc.layers.entropy import ENTROPIES
from rcc.models.adapter import Adapter


def write_artifact(
    adapter: Adapter,
    directory: Path | str,
    dtype: str | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    entropy: str = "zstd",
) -> ArtifactSize:
    """Write the model to a new `directory`, atomically, and say what it takes on disk.

    Args:
        dtype: 'float32', 'float16' or 'bfloat16' for all floating-point tensors; None keeps each as it is.
        config, metrics: plain data for the manifest; they change nothing about how the artifact loads.
        entropy: 'zstd' codes what gets smaller by it, to be decoded at load; 'none' is faster to write and to load.

    Raises:
        UserError: the directory exists or cannot be written, or the dtype or the entropy coding is unknown.
        WorkError: a weight is not finite or does not fit the dtype, a quantised one is no multiple of its step, or
            the disk is full.
    """
    storage_dtype(dtype)
    if entropy not in ENTROPIES:
        raise UserError(unknown("entropy coding", entropy, ENTROPIES))
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
    tensors, tied = named_tensors(adapter.module)
    for name, tensor in tensors.items():
        refuse_unstorable(name, tensor, target)
    adapter.save_files(directory)
    files = file_entries(directory)
    contents = Contents()
    write_packed(directory / WEIGHTS, pack(tensors, steps_of(adapter.module), target, entropy, contents))
    manifest = manifest_of(adapter, contents, tied, files, config, metrics)
    with open(directory / MANIFEST, "xb") as file:
        file.write(manifest.to_bytes())


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
        config=dict(config or {}),
        metrics=dict(metrics or {}),
    )


def file_entries(directory: Path) -> dict[str, FileEntry]:
    """What the manifest says of the files of `directory`, by their paths in it."""
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
