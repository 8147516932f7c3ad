"""Format and parse the manifest's lines, which say how tensors and files are stored.

512x128 int8*step gaps 4915~3 -3:3 3001+4101 9a3f01c2d4e5 a matrix
512x128 int8*step dense -3:3 gaps:215 13107+180+97 9a3f…   one whose outliers lie apart
128                                                       a vector
128 ^-53                                                  a vector on a grid, see `rcc.artifact.vectors`
9016+4120 0d1e2f3a4b5c                                    the values of all vectors of one dtype, or on such a grid
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rcc.artifact.contents import DTYPES
from rcc.artifact.vectors import problem_of, stream_of
from rcc.errors import Problems
from rcc.layers.digits import LARGEST, LEAST, Span
from rcc.layers.encoding import ENCODINGS, Outliers, value_lengths
from rcc.layers.indices import ESCAPE, INDICES, MOST_CSR_COLUMNS, index_lengths, matrix_shape

STEPPED = "int8*step"
TENSOR_DIGITS, FILE_DIGITS = 12, 32
"""Hexadecimal digits of a SHA-256 that are kept: 48 and 128 bits, against damage and not against forgery."""
_COUNT, _SIGNED = "[0-9]{1,15}", "-?[0-9]{1,3}"
_SHAPE, _LENGTHS = rf"scalar|{_COUNT}(?:x{_COUNT})*", rf"{_COUNT}(?:\+{_COUNT})*"
_VECTOR = re.compile(rf"(?P<shape>{_SHAPE})(?: (?P<dtype>[a-z0-9]+))?(?: (?P<word>[=^*][0-9a-fp-]{{1,20}}))?")
_MATRIX = re.compile(
    rf"(?P<shape>{_SHAPE})(?: (?P<dtype>[a-z0-9*]+))?"
    rf" (?P<encoding>[a-z]+)(?: (?P<nonzeros>{_COUNT})(?:~(?P<escapes>{_COUNT}))?)?"
    rf"(?: (?P<least>{_SIGNED}):(?P<largest>{_SIGNED}))?"
    rf"(?: (?P<index>[a-z]+):(?P<outliers>{_COUNT})(?:~(?P<marks>{_COUNT}))?)?"
    rf" (?P<lengths>{_LENGTHS}) (?P<sha256>[0-9a-f]{{{TENSOR_DIGITS}}})"
)
_STREAM = re.compile(rf"(?P<lengths>{_LENGTHS}) (?P<sha256>[0-9a-f]{{{TENSOR_DIGITS}}})")
_FILE = re.compile(rf"(?P<nbytes>{_COUNT}) (?P<sha256>[0-9a-f]{{{FILE_DIGITS}}})")


@dataclass(frozen=True)
class Vector:
    """A tensor of at most one dimension; its values lie with those of all others of its dtype, or of its grid.

    `word` says what is stored in place of the values, see `rcc.artifact.vectors`; empty where they are stored.
    """

    shape: tuple[int, ...]
    dtype: str
    word: str = ""

    @property
    def stream(self) -> str:
        """The stream of its values, empty where it has none."""
        return stream_of(self.word, self.dtype)


@dataclass(frozen=True)
class Matrix:
    """A tensor of two dimensions or more: the bytes of its parts lie one after the other.

    `dtype` is that of its values; one that is `stepped` holds whole numbers, to be multiplied, row by row, by the
    tensor whose name ends in `_step`. `nonzeros` counts the values stored, where not all are. With a `span` they are
    whole numbers packed as digits, see `rcc.layers.digits`; `outliers` beyond it are apart.
    """

    shape: tuple[int, ...]
    dtype: str
    encoding: str
    nonzeros: int
    escapes: int
    lengths: tuple[int, ...]
    sha256: str
    stepped: bool = False
    span: Span | None = None
    outliers: Outliers | None = None

    @property
    def stored(self) -> int:
        """How many values take a place: all of a dense matrix."""
        far = 0 if self.outliers is None or self.encoding == "dense" else self.outliers.nonzeros
        return self.nonzeros + far


@dataclass(frozen=True)
class Stream:
    """The values of all vectors of one dtype."""

    lengths: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class FileEntry:
    """One of the adapter's files: its length in bytes and the start of its SHA-256."""

    nbytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.nbytes} {self.sha256}"


Entry = Vector | Matrix


def vector_order(names: Iterable[str]) -> list[str]:
    """The names of vectors in the order in which their values lie: by what follows the last dot, then what precedes it.

    Values of a kind (all biases, all steps) lie together, since they resemble one another.
    """
    return sorted(names, key=lambda name: name.rpartition(".")[::-1])


def stream_text(stream: Stream) -> str:
    return f"{_joined(stream.lengths)} {stream.sha256}"


def entry_text(entry: Entry, default: str) -> str:
    """The line of a tensor; a dtype is left out where it is `default`."""
    shape = "x".join(map(str, entry.shape)) or "scalar"
    dtype = STEPPED if isinstance(entry, Matrix) and entry.stepped else entry.dtype
    named = shape if dtype == default else f"{shape} {dtype}"
    if isinstance(entry, Vector):
        return f"{named} {entry.word}" if entry.word else named
    nonzeros = "" if entry.encoding == "dense" else f" {_counts(entry)}"
    span = "" if entry.span is None else f" {entry.span[0]}:{entry.span[1]}"
    apart = "" if entry.outliers is None else f" {entry.outliers.encoding}:{_counts(entry.outliers)}"
    return f"{named} {entry.encoding}{nonzeros}{span}{apart} {_joined(entry.lengths)} {entry.sha256}"


def parse_entry(name: str, text: object, default: str, problems: Problems) -> Entry | None:
    """The tensor `name` as its line says; None after its problems were noted."""
    found = _match(_VECTOR, text)
    if found is not None:
        vector = Vector(_shape(found["shape"]), found["dtype"] or default, found["word"] or "")
        if not problems.choice(f"dtype of tensor '{name}'", vector.dtype, DTYPES):
            return None
        flat = problems.check(len(vector.shape) < 2, f"tensor '{name}' is {text!r}, which says nothing of its bytes.")
        problem = problem_of(vector.word, DTYPES[vector.dtype])
        sound = problems.check(not problem, f"tensor '{name}' {problem}.")
        return vector if flat and sound else None
    found = _match(_MATRIX, text)
    if not problems.check(found is not None, f"tensor '{name}' is {text!r}, which is no line of a tensor."):
        return None
    assert found is not None
    dtype = found["dtype"] or default
    matrix = Matrix(
        shape=_shape(found["shape"]),
        dtype="int8" if dtype == STEPPED else dtype,
        encoding=found["encoding"],
        nonzeros=int(found["nonzeros"] or 0),
        escapes=int(found["escapes"] or 0),
        lengths=_lengths(found["lengths"]),
        sha256=found["sha256"],
        stepped=dtype == STEPPED,
        span=None if found["least"] is None else (int(found["least"]), int(found["largest"])),
        outliers=None
        if found["index"] is None
        else Outliers(found["index"], int(found["outliers"]), int(found["marks"] or 0)),
    )
    known = problems.choice(f"encoding of tensor '{name}'", matrix.encoding, ENCODINGS)
    known &= problems.choice(f"dtype of tensor '{name}'", matrix.dtype, DTYPES)
    if matrix.outliers is not None:
        known &= problems.choice(f"index of outliers of tensor '{name}'", matrix.outliers.encoding, INDICES)
    if not known:
        return None
    if matrix.encoding == "dense" and found["nonzeros"] is None:
        matrix = replace(matrix, nonzeros=math.prod(matrix.shape))
    problem = _misfit(matrix, found["nonzeros"] is not None)
    return matrix if problems.check(not problem, f"tensor '{name}' of shape {list(matrix.shape)} {problem}.") else None


def stream_itemsize(stream: str) -> int:
    """Bytes of a value of a stream: those of its dtype, or one of the whole numbers of a grid."""
    return DTYPES[stream].itemsize if stream in DTYPES else 1


def parse_stream(dtype: str, text: object, count: int, problems: Problems) -> Stream | None:
    """The stream of the `count` values of all vectors of `dtype`, or of a grid; None after its problems were noted."""
    found = _match(_STREAM, text)
    if not problems.check(found is not None, f"the vectors of {dtype} are {text!r}, not lengths and a SHA-256."):
        return None
    assert found is not None
    stream = Stream(_lengths(found["lengths"]), found["sha256"])
    fits = _fit(stream.lengths, value_lengths(len(stream.lengths), count, stream_itemsize(dtype), span=None, zero=True))
    problems.check(fits, f"the {count} values of all vectors of {dtype} cannot take {list(stream.lengths)} bytes.")
    return stream if fits else None


def parse_file(name: str, text: object, problems: Problems) -> FileEntry | None:
    found = _match(_FILE, text)
    if not problems.check(found is not None, f"file '{name}' needs its bytes and a SHA-256, and has {text!r}."):
        return None
    assert found is not None
    return FileEntry(int(found["nbytes"]), found["sha256"])


def _misfit(matrix: Matrix, counted: bool) -> str:
    """The contradiction in the line of a matrix; empty if there is none."""
    rows, columns = matrix_shape(matrix.shape)
    numel, itemsize = rows * columns, DTYPES[matrix.dtype].itemsize
    if counted == (matrix.encoding == "dense"):
        return f"is stored {matrix.encoding} and counts {'' if counted else 'no '}non-zeros"
    if len(matrix.shape) < 2:
        return "is no matrix"
    far = matrix.outliers
    for stored in (matrix, far) if far is not None else (matrix,):
        if stored.nonzeros > numel:
            return f"cannot have {stored.nonzeros} non-zeros"
        if stored.escapes and (stored.encoding != "gaps" or stored.escapes * ESCAPE > numel - stored.nonzeros):
            return f"cannot have {stored.escapes} escapes"
        if stored.encoding == "csr" and columns > MOST_CSR_COLUMNS:
            return f"has more than the {MOST_CSR_COLUMNS} columns that csr can index"
    if far is not None and (matrix.span is None or not far.nonzeros):
        return "has outliers without digits" if matrix.span is None else "names an index of outliers and has none"
    if matrix.span is not None:
        least, largest = matrix.span
        if matrix.dtype != "int8" or not LEAST <= least <= largest <= LARGEST:
            return f"cannot have values from {least} to {largest}"
        if matrix.nonzeros and matrix.span == (0, 0) and matrix.encoding != "dense":
            return "has zeros alone and counts non-zeros"
    index: tuple[int, ...] = ()
    if matrix.encoding != "dense":
        index = index_lengths(matrix.encoding, rows, columns, matrix.nonzeros, matrix.escapes)
    apart: tuple[int, ...] = ()
    if far is not None:
        apart = (*index_lengths(far.encoding, rows, columns, far.nonzeros, far.escapes), far.nonzeros)
    parts = len(matrix.lengths) - len(index) - len(apart)
    values = value_lengths(parts, matrix.nonzeros, itemsize, matrix.span, matrix.encoding == "dense")
    if not _fit(matrix.lengths, (*index, *values, *apart)):
        return f"cannot take {list(matrix.lengths)} bytes as {matrix.encoding} {matrix.dtype}"
    return ""


def _fit(lengths: Sequence[int], raw: Sequence[int]) -> bool:
    return len(lengths) == len(raw) and all(length <= most for length, most in zip(lengths, raw, strict=True))


def _match(pattern: re.Pattern[str], text: object) -> re.Match[str] | None:
    return pattern.fullmatch(text) if isinstance(text, str) else None


def _counts(stored: Matrix | Outliers) -> str:
    """How many values are stored, and the escapes among their gaps where there are any."""
    return f"{stored.nonzeros}~{stored.escapes}" if stored.escapes else f"{stored.nonzeros}"


def _joined(lengths: Sequence[int]) -> str:
    return "+".join(map(str, lengths))


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("+")))


def _shape(text: str) -> tuple[int, ...]:
    return () if text == "scalar" else tuple(map(int, text.split("x")))
