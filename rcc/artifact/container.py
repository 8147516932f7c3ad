"""Hold an artifact in one file: the weights' data, then the adapter's files and the manifest, each one zstd frame.

    magic (8) | data of the weights | files | manifest | lengths (12) | SHA-256 (16) | version (4)

What comes last says where everything lies, so that the data are written as they are packed, and a file that was cut
short is noticed at once. Whatever is read is bounded by the file's own bytes and by `limits.text_bytes`.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rcc.atomic import disk_errors, reading
from rcc.errors import UserError
from rcc.layers.entropy import Buffer, compress_text, expand_part
from rcc.limits import how_to_raise, limits, regular_file

CONTAINERS = ("directory", "file")
FILE = "artifact.rcc"
"""The name of the file in a run's directory."""
MAGIC, VERSION = b"\x89RCC\r\n\x1a\n", b"RCC1"
"""As PNG's: text that was mended on the way (line ends, the eighth bit) no longer begins so."""
_LENGTHS, _DIGEST = struct.Struct("<3I"), 16
_END = _LENGTHS.size + _DIGEST + len(VERSION)
FRAME_BYTES = len(MAGIC) + _END
"""Bytes of the file besides data, files and manifest."""
_NAME_BYTES = 255


@dataclass(frozen=True)
class Layout:
    """Where the parts of an artifact's file lie: `data` bytes from `begin` on, then the files, then the manifest."""

    begin: int
    data: int
    files: Buffer
    manifest: bytes


def is_file(path: Path | str) -> bool:
    """Whether an artifact's file lies there, by its first bytes."""
    try:
        with open(regular_file(Path(path)), "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, UserError):
        return False


def pack_files(contents: Mapping[str, bytes]) -> Buffer:
    """The adapter's files, by name one after the other, as one part."""
    return compress_text(b"".join(contents[name] for name in sorted(contents)))


def end_of_file(files: Buffer, manifest: bytes) -> bytes:
    """All that follows the data of the weights."""
    text = compress_text(manifest)
    lengths = _LENGTHS.pack(len(files), len(text), len(manifest))
    whole = b"".join((files, text, lengths))
    return whole + hashlib.sha256(whole).digest()[:_DIGEST] + VERSION


def write_data(path: Path, parts: Iterable[Buffer]) -> None:
    """Begin the file with the parts of the weights' data.

    Raises:
        OSError: the file exists, or the disk is full or fails.
    """
    with open(path, "xb") as file:
        file.write(MAGIC)
        for part in parts:
            file.write(part)


def read_layout(path: Path) -> Layout:
    """The parts of an artifact's file, of which the data of the weights stay where they are.

    Raises:
        UserError: it is no such file, was cut short or altered, or declares more than its bytes or a limit allow.
    """
    again = "Copy the artifact again."
    with reading(path), open(regular_file(path), "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{path} is not an artifact: it does not begin as the file of one does.")
        if size < FRAME_BYTES:
            raise UserError(f"{path} is cut short: it has {size} bytes. {again}")
        file.seek(size - _END)
        end = file.read(_END)
        found = end[-len(VERSION) :]
        if found != VERSION:
            newer = found[:3] == VERSION[:3]
            problem = f"is a container {found[3:]!r}, and this rcc reads {VERSION[3:]!r}" if newer else "is cut short"
            raise UserError(f"{path} {problem}. {'Update rcc.' if newer else again}")
        files, manifest, length = _LENGTHS.unpack(end[: _LENGTHS.size])
        if files + manifest > size - FRAME_BYTES:
            raise UserError(f"{path} declares files of {files + manifest} bytes and has {size}. {again}")
        for declared in (files, length):
            if declared > limits.text_bytes:
                raise UserError(f"{path} declares a part of {declared} bytes. {how_to_raise('text_bytes')}")
        file.seek(size - _END - files - manifest)
        whole = file.read(files + manifest)
    digest = hashlib.sha256(whole + end[: _LENGTHS.size]).digest()[:_DIGEST]
    if digest != end[_LENGTHS.size : -len(VERSION)]:
        raise UserError(f"{path} is not the file that was written: the checksum of its manifest differs. {again}")
    try:
        text = bytes(expand_part(whole[files:], length))
    except ValueError as error:
        raise UserError(f"{path} is damaged: its manifest {error}. {again}") from error
    return Layout(len(MAGIC), size - FRAME_BYTES - files - manifest, whole[:files], text)


def unpack_files(path: Path, packed: Buffer, lengths: Mapping[str, int]) -> dict[str, bytes]:
    """The adapter's files by name.

    Args:
        lengths: of each file in bytes, as the manifest says.

    Raises:
        UserError: a name that leads out of a folder, or bytes that are not those files.
    """
    _check_names(path, lengths)
    total = sum(lengths.values())
    if total > limits.text_bytes:
        raise UserError(f"{path} declares files of {total} bytes. {how_to_raise('text_bytes')}")
    try:
        whole = memoryview(expand_part(packed, total))
    except ValueError as error:
        raise UserError(f"{path} is damaged: the part of its files {error}. Copy the artifact again.") from error
    contents, begin = {}, 0
    for name in sorted(lengths):
        contents[name] = bytes(whole[begin : begin + lengths[name]])
        begin += lengths[name]
    return contents


@contextmanager
def laid_out(path: Path, contents: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder with these files for as long as the block runs; errors that name it name `path` instead."""
    with tempfile.TemporaryDirectory(prefix="rcc-") as folder, disk_errors(Path(folder)):
        for name, content in contents.items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        try:
            yield Path(folder)
        except UserError as error:
            raise UserError(*(problem.replace(folder, str(path)) for problem in error.problems)) from error


def _check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse names that are no paths of files inside a folder, on any system, or that stand in one another's way."""
    folders: set[str] = set()
    taken = set(names)
    for name in sorted(taken):
        pure = PurePosixPath(name)
        plain = name.isprintable() and not set('\\:*?"<>|') & set(name) and str(pure) == name and not pure.is_absolute()
        if not plain or ".." in pure.parts or name == "." or any(len(p.encode()) > _NAME_BYTES for p in pure.parts):
            raise UserError(f"{path} names a file {name[:80]!r}, which is no path inside a folder.")
        folders.update(str(parent) for parent in pure.parents)
    if both := folders & taken:
        raise UserError(f"{path} names {sorted(both)[0]!r} as a file and as a folder.")
