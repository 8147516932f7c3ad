"""Read an artifact's files back, and refuse any that is damaged, incomplete, altered or foreign."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rcc.artifact.container import laid_out, read_layout, unpack_files
from rcc.artifact.contents import DTYPES
from rcc.artifact.entries import FILE_DIGITS, Matrix, Vector
from rcc.artifact.manifest import WEIGHTS, Manifest, read_manifest
from rcc.artifact.packing import digest
from rcc.artifact.vectors import decoded
from rcc.artifact.weights import KEY
from rcc.atomic import reading
from rcc.errors import Problems, UserError
from rcc.layers.encoding import Encoded, check, decode
from rcc.layers.entropy import Buffer
from rcc.layers.grid import from_grid
from rcc.limits import how_to_raise, limits, regular_file

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

    Files that the manifest does not name (a README, say) are ignored.
    """
    problems = Problems(str(directory))
    if directory.is_file():
        for name, content in packed_files(directory, manifest).items():
            same = hashlib.sha256(content).hexdigest()[:FILE_DIGITS] == manifest.files[name].sha256
            problems.check(same, f"the file '{name}' in it is not the one that was written. Copy the artifact again.")
        problems.done()
        return
    present = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    for name, entry in manifest.files.items():
        if not problems.check(name in present, f"the file '{name}' is missing. Copy the artifact again."):
            continue
        with reading(present[name]), open(regular_file(present[name], directory), "rb") as file:
            same = (
                present[name].stat().st_size == entry.nbytes
                and hashlib.file_digest(file, "sha256").hexdigest()[:FILE_DIGITS] == entry.sha256
            )
        problems.check(same, f"the file '{name}' is not the one that was written. Copy the artifact again.")
    problems.done()


def packed_files(path: Path, manifest: Manifest) -> dict[str, bytes]:
    """The adapter's files in the file of an artifact, by name.

    Raises:
        UserError: see `unpack_files`.
    """
    lengths = {name: entry.nbytes for name, entry in manifest.files.items()}
    return unpack_files(path, read_layout(path).files, lengths)


@contextmanager
def files_of(path: Path, manifest: Manifest) -> Iterator[Path]:
    """The folder with the adapter's files: the artifact's directory, or one that is there while the block runs."""
    if not path.is_file():
        yield path
        return
    with laid_out(path, packed_files(path, manifest)) as folder:
        yield folder


class StoredWeights:
    """The open file with the weights of an artifact, whose length agrees with the manifest. Reads lazily.

    Tensors are read from the file and not mapped from it: what was read of a map stays in the memory of the process
    for as long as the file is open, which in the end is the whole file.
    """

    def __init__(self, path: Path, manifest: Manifest, file: BinaryIO, end: int) -> None:
        self.path, self.manifest, self._file = path, manifest, file
        self._vectors: dict[str, dict[str, Tensor]] = {}
        self._hashing = False
        self._streams, vectors = _begins({key: stream.lengths for key, stream in manifest.streams.items()}, 0)
        matrices = {name: entry.lengths for name, entry in manifest.tensors.items() if isinstance(entry, Matrix)}
        self._matrices, self.nbytes = _begins(matrices, vectors)
        self._start = end - self.nbytes
        _check_expansion(path, manifest, self.nbytes)

    @contextmanager
    def verified_by_reading(self) -> Iterator[None]:
        """Compare what is read within the block with its SHA-256: the file is gone through once."""
        self._hashing = True
        try:
            yield
        finally:
            self._hashing = False

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Check the bytes of these tensors, or of all, and that they can be decoded; one error names all that fail."""
        problems = Problems(str(self.path))
        entries = self.manifest.tensors
        streams: set[str] = set()
        for name in entries if names is None else names:
            entry = entries[name]
            if isinstance(entry, Vector):
                streams.add(entry.stream)
                continue
            problem = _problem(self._encoded(name, entry), entry.sha256)
            problems.check(not problem, f"tensor '{name}' {problem}. Copy the artifact again.")
            steps = entries.get(f"{name}_step")
            if entry.stepped and isinstance(steps, Vector):
                streams.add(steps.stream)
        for stream in sorted(streams - {""}):  # those of one repeated value lie in the manifest alone
            problem = _problem(self._encoded_stream(stream), self.manifest.streams[stream].sha256)
            problems.check(not problem, f"{self._any_vector(stream)} {problem}. Copy the artifact again.")
        problems.done()

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor in memory of its own, as it was written; a quantised matrix is multiplied by its steps.

        Args:
            dtype: floating-point tensors, and with them steps, are cast to it; None keeps the dtype as stored, for a
                quantised matrix that of its steps.

        Raises:
            UserError: its bytes cannot be decoded, which `verify` would have found; within `verified_by_reading`, they
                are not those that were written.
        """
        entry = self.manifest.tensors[name]
        if isinstance(entry, Vector):
            tensor = self._vector(name, entry)
        else:
            tensor = self._decoded(f"tensor '{name}'", self._encoded(name, entry), entry.sha256)
            if entry.stepped:
                return from_grid(tensor, self.read(f"{name}_step", dtype))
        return tensor.to(dtype) if dtype is not None and torch.is_floating_point(tensor) else tensor

    def _vector(self, name: str, entry: Vector) -> Tensor:
        stream, count, dtype = entry.stream, math.prod(entry.shape), DTYPES[entry.dtype]
        if not stream:
            return decoded(entry.word, torch.empty(0), count, dtype).reshape(entry.shape)
        if stream not in self._vectors:
            vectors = self.manifest.vectors(stream)
            known = self.manifest.streams[stream].sha256
            values = self._decoded(self._any_vector(stream), self._encoded_stream(stream), known)
            pieces = values.split([math.prod(vector.shape) for vector in vectors.values()])
            self._vectors[stream] = dict(zip(vectors, pieces, strict=True))
        # A copy, as a view would keep the values of all vectors for as long as one of them lives.
        return decoded(entry.word, self._vectors[stream][name].clone(), count, dtype).reshape(entry.shape)

    def _decoded(self, what: str, encoded: Encoded, sha256: str) -> Tensor:
        if self._hashing and digest(encoded.parts) != sha256:
            self.verify()  # says of all tensors which are damaged
            raise UserError(f"{self.path} changed while it was read. Load it again.")
        try:
            return decode(encoded, take=True)
        except ValueError as error:
            raise UserError(f"{self.path}: {what} {error}. Copy the artifact again.") from error

    def _encoded(self, name: str, entry: Matrix) -> Encoded:
        parts = self._parts(self._matrices[name], entry.lengths)
        dtype = DTYPES[entry.dtype]
        return Encoded(
            entry.encoding, entry.shape, dtype, entry.nonzeros, entry.escapes, parts, entry.span, entry.outliers
        )

    def _encoded_stream(self, stream: str) -> Encoded:
        count = sum(math.prod(vector.shape) for vector in self.manifest.vectors(stream).values())
        parts = self._parts(self._streams[stream], self.manifest.streams[stream].lengths)
        return Encoded("dense", (count,), DTYPES.get(stream, torch.int8), count, 0, parts)

    def _parts(self, begin: int, lengths: Sequence[int]) -> tuple[Buffer, ...]:
        self._file.seek(self._start + begin)
        return tuple(self._part(length) for length in lengths)

    def _part(self, length: int) -> Buffer:
        """The next bytes of the file, in memory that may become a tensor's; fewer where it ends."""
        part = torch.empty(length, dtype=torch.uint8).numpy()
        return part[: self._file.readinto(part)].data  # type: ignore[attr-defined]

    def _any_vector(self, stream: str) -> str:
        """The vectors of a stream by name: damage to their bytes cannot be put down to one of them."""
        names = list(self.manifest.vectors(stream))
        shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
        more = len(names) - _SHOWN
        return f"tensor {shown}{f' or one of {more} more' if more > 0 else ''}: the part of the {stream} vectors"


@contextmanager
def stored_weights(directory: Path, manifest: Manifest) -> Iterator[StoredWeights]:
    """Open the weights of an artifact, their layout checked against the manifest.

    Raises:
        UserError: no such file, not a whole safetensors file, or not the tensors of the manifest.
    """
    if directory.is_file():
        layout = read_layout(directory)
        with reading(directory), open(regular_file(directory), "rb") as file:
            weights = StoredWeights(directory, manifest, file, layout.begin + layout.data)
            if weights.nbytes != layout.data:
                raise UserError(
                    f"{directory} holds weights of {layout.data} bytes where the manifest's tensors take"
                    f" {weights.nbytes}. Copy the artifact again."
                )
            yield weights
        return
    path = directory / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path} is missing. Copy the artifact again.")
    with reading(path), open(regular_file(path, directory), "rb") as file:
        # The data of a safetensors file are its last bytes, without gaps.
        weights = StoredWeights(path, manifest, file, path.stat().st_size)
        _check_layout(path, weights.nbytes)
        yield weights


def _check_layout(path: Path, nbytes: int) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            keys = sorted(file.keys())
            data = file.get_slice(KEY) if keys == [KEY] else None
            found, shape = (data.get_dtype(), list(data.get_shape())) if data is not None else ("", [])
    except SafetensorError as error:
        raise UserError(
            f"{path} is truncated, damaged or no safetensors file ({error}). Copy the artifact again."
        ) from error
    if data is None:
        names = ", ".join(keys[:_SHOWN]) or "nothing"
        raise UserError(f"{path} holds {names}, not '{KEY}' alone: it is not the weights of an artifact.")
    if (found, shape) != ("U8", [nbytes]):
        raise UserError(
            f"{path} holds {found} {shape} where the manifest's tensors take U8 {[nbytes]}. Copy the artifact again."
        )


def _check_expansion(path: Path, manifest: Manifest, nbytes: int) -> None:
    """Refuse tensors that would take far more memory than the bytes they are stored in can justify.

    Zeros are stored in next to nothing, so that a file of a few bytes could otherwise ask for any amount.
    """
    entries = manifest.tensors.values()
    # Four bytes at least: a quantised value takes one as stored and is multiplied by its step in float32.
    memory = sum(math.prod(entry.shape) * max(4, DTYPES[entry.dtype].itemsize) for entry in entries)
    if memory > limits.expansion * nbytes + limits.slack:
        raise UserError(
            f"{path}: the tensors of the manifest take {memory} bytes in memory, and the file holds {nbytes}."
            f" {how_to_raise('expansion')}"
        )


def _begins(lengths: Mapping[str, Sequence[int]], begin: int) -> tuple[dict[str, int], int]:
    """The offset of each of these, one after the other by name, and the end of the last."""
    # By name, as `pack` writes them: the manifest has no offsets that could contradict the lengths.
    begins = {}
    for name in sorted(lengths):
        begins[name] = begin
        begin += sum(lengths[name])
    return begins, begin


def _problem(encoded: Encoded, sha256: str) -> str:
    if digest(encoded.parts) != sha256:
        return "does not hold the bytes that were written"
    try:
        check(encoded)
    except ValueError as error:
        return str(error)
    return ""
