"""Reading an artifact's files back, and refusing any that is damaged, incomplete, altered or foreign."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rcc.artifact.contents import DTYPES
from rcc.artifact.manifest import WEIGHTS, Manifest, TensorEntry, read_manifest
from rcc.artifact.weights import CODES, digest
from rcc.atomic import reading
from rcc.errors import Problems, UserError
from rcc.layers.encoding import Encoded, decode

_SHOWN = 10


def verify(directory: Path | str) -> list[str]:
    """Check every byte of an artifact against its manifest; returns the names of the tensors checked.

    Raises:
        UserError: what is wrong, naming the file or the tensor.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    with stored_weights(directory, manifest) as weights:
        weights.verify()
    return list(manifest.tensors)


def check_files(directory: Path, manifest: Manifest) -> None:
    """Check the adapter's files by length and SHA-256. Names in the manifest are compared, never opened.

    Files the manifest does not know (a README, say) are let be.
    """
    problems = Problems(str(directory))
    present = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    for name, entry in manifest.files.items():
        if not problems.check(name in present, f"the file '{name}' is missing. Copy the artifact again."):
            continue
        with reading(present[name]), open(present[name], "rb") as file:
            same = (
                present[name].stat().st_size == entry.bytes
                and hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
            )
        problems.check(same, f"the file '{name}' is not the one that was written. Copy the artifact again.")
    problems.done()


class StoredWeights:
    """The open `weights.safetensors` of an artifact, whose layout agrees with the manifest. Reads lazily."""

    def __init__(self, path: Path, manifest: Manifest, file: safe_open) -> None:
        self.path, self.manifest, self._file = path, manifest, file
        problems = Problems(str(path))
        wanted = {
            name + suffix: (name, *part)
            for name, entry in manifest.tensors.items()
            for suffix, part in entry.parts().items()
        }
        present = set(file.keys())
        for key in _first(sorted(wanted.keys() - present)):
            problems.check(False, f"tensor '{wanted[key][0]}' is missing (no '{key}' in the file).")
        for key in _first(sorted(present - wanted.keys())):
            problems.check(False, f"tensor '{key}' is not in the manifest.")
        for key in sorted(wanted.keys() & present):
            name, dtype, shape = wanted[key]
            part = file.get_slice(key)
            found, found_shape = part.get_dtype(), tuple(part.get_shape())
            problems.check(
                found == CODES[dtype] and found_shape == shape,
                f"tensor '{name}': '{key}' is stored as {found} {found_shape} and the manifest says "
                f"{CODES[dtype]} {shape}.",
            )
        problems.done()

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare the bytes of these tensors, or all, with their SHA-256; one error names all that differ."""
        problems = Problems(str(self.path))
        for name in self.manifest.tensors if names is None else names:
            problem = self._problem(name, self.manifest.tensors[name])
            problems.check(not problem, problem)
        problems.done()

    def read(self, name: str) -> Tensor:
        """A tensor in memory of its own, bit for bit as it was written.

        Raises:
            UserError: its mask and its values disagree, which `verify` would have found.
        """
        entry = self.manifest.tensors[name]
        encoded = Encoded(entry.encoding, entry.shape, DTYPES[entry.dtype], self._parts(name, entry))
        try:
            return decode(encoded)
        except ValueError as error:
            raise UserError(f"{self.path}: tensor '{name}' {error}. Copy the artifact again.") from error

    def _parts(self, name: str, entry: TensorEntry) -> dict[str, Tensor]:
        return {suffix: self._file.get_tensor(name + suffix) for suffix in entry.parts()}

    def _problem(self, name: str, entry: TensorEntry) -> str:
        parts = self._parts(name, entry)
        if digest(parts.values()) != entry.sha256:
            return f"tensor '{name}' does not hold the bytes that were written. Copy the artifact again."
        if entry.encoding == "bitmask":
            marked = np.unpackbits(parts[".mask"].numpy(), count=math.prod(entry.shape))
            if int(np.count_nonzero(marked)) != entry.nonzeros:
                return f"tensor '{name}' has a mask that does not mark {entry.nonzeros} values."
        return ""


@contextmanager
def stored_weights(directory: Path, manifest: Manifest) -> Iterator[StoredWeights]:
    """Open the weights of an artifact, their layout checked against the manifest.

    Raises:
        UserError: no such file, not a whole safetensors file, or not the tensors of the manifest.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path} is missing. Copy the artifact again.")
    try:
        with reading(path), safe_open(path, framework="pt") as file:
            yield StoredWeights(path, manifest, file)
    except SafetensorError as error:
        raise UserError(
            f"{path} is truncated, damaged or no safetensors file ({error}). Copy the artifact again."
        ) from error


def _first(names: list[str]) -> list[str]:
    """The first few names, so that an error about a foreign file stays readable."""
    return names[:_SHOWN]
