"""Bound what is read from files of strangers: regular files alone, inside their folder, up to sizes that can be raised.

Limits are attributes of `limits`: `limits.text_bytes=1073741824` on the command line, or from Python
`rcc.limits.limits.text_bytes = 1 << 30`, raises one for the process. They are far above what published models and
data sets need and far below what fills a machine.
"""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcc.errors import Problems, UserError, abridged, path_fault


@dataclass
class Limits:
    """The largest sizes that a file may have or declare.

    text_bytes: of a file that is read whole (JSON, a vocabulary), and of a line of one that is read line by line.
    table_bytes: of a file that is read line by line (CSV, TSV, JSONL).
    image_bytes: of an image as it is stored.
    image_pixels: of an image, and of what it becomes when its shorter side is resized for the model.
    image_aspect: the longer side of an image by its shorter one, when it is decoded: of a thin image the longer side
        becomes huge when the shorter one is resized.
    audio_bytes: of a sound as it is stored.
    audio_seconds: of a sound, when it is decoded.
    layers: of a model, for each of its layer counts.
    width: of a hidden layer, a projection, or a row of attention heads.
    tokens: of a vocabulary, and of a text.
    image_side: height or width in pixels that a model takes or a processor makes.
    expansion: bytes of all tensors of an artifact in memory for each byte of its weights on disk, beyond `slack`
        bytes. A matrix of zeros takes no bytes at all, so that some limit must be set; real models stay below 1000.
    expansion_of_tables: bytes of all rows of a parquet or arrow file for each byte of the file, beyond `slack`.
    """

    text_bytes: int = 256 << 20
    table_bytes: int = 8 << 30
    image_bytes: int = 256 << 20
    image_pixels: int = 1 << 26
    image_aspect: int = 256
    audio_bytes: int = 512 << 20
    audio_seconds: int = 3600
    layers: int = 1024
    width: int = 1 << 17
    tokens: int = 1 << 22
    image_side: int = 4096
    expansion: int = 4096
    expansion_of_tables: int = 64
    slack: int = 256 << 20


limits = Limits()


def set_limits(values: Mapping[str, Any]) -> None:
    """Set limits of the process by name; those that are not named keep their value.

    Raises:
        UserError: a limit that there is not, or a value that is no whole number from 1 up; none is set then.
    """
    problems = Problems("limits")
    for name, value in values.items():
        if problems.choice("limit", name, vars(limits)):
            problems.whole(name, value, 1)
    problems.done()
    for name, value in values.items():
        setattr(limits, name, value)


def how_to_raise(limit: str) -> str:
    """The sentence that says how a limit is raised."""
    return f"If it is sound, raise the limit: limits.{limit}=<more>, or from Python rcc.limits.limits.{limit}."


def expanded(option: str, path: str | Path) -> Path:
    """The path that an option gives, with ~ as the home directory.

    Raises:
        UserError: nothing can be called so; names the option.
    """
    fault = path_fault(path)
    if fault:
        raise UserError(f"{option} '{abridged(str(path))}' {fault}. Give the path of a file or a folder.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"{option} '{path}' cannot be found: {error} Write the folder out.") from error


def regular_file(path: Path, within: Path | None = None, limit: str | None = None) -> Path:
    """`path`, once it is known to be a regular file that may be read.

    Args:
        within: a folder that the file must lie in after links are followed.
        limit: the name of the limit of its bytes.

    Raises:
        UserError: a FIFO, a device or a folder, a link to itself, a link that leads out of `within`, or too many bytes.
        FileNotFoundError: there is none.
    """
    try:
        found = path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a link that leads back to itself. Replace it by the file itself.") from error
        raise
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is no regular file, and nothing else is read. Replace it by the file itself.")
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        raise UserError(f"{path} is a link out of {within}, which is not followed. Replace it by the file itself.")
    if limit is not None:
        _bounded(path, found.st_size, limit)
    return path


def read_bytes(path: Path, within: Path | None = None, limit: str = "text_bytes") -> bytes:
    """The bytes of a regular file of a bounded size.

    Raises:
        UserError, FileNotFoundError: as `regular_file`.
    """
    with regular_file(path, within, limit).open("rb") as file:
        content = file.read(getattr(limits, limit) + 1)  # a file of the system says 0 and holds more
    _bounded(path, len(content), limit)
    return content


def read_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, one at a time; a mark of byte order at its start is left away.

    Raises:
        UserError, OSError: as `regular_file`, or a line that is too long.
        UnicodeDecodeError: it is no UTF-8.
    """
    with regular_file(path, limit="table_bytes").open(encoding="utf-8-sig", newline=newline) as file:
        while line := file.readline(limits.text_bytes + 1):
            _bounded(path, len(line), "text_bytes", "a line of ")
            yield line


def read_json(path: Path, within: Path | None = None) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        UserError: it is no file to read, or not JSON with a mapping at the top; names the file.
    """
    try:
        content = json.loads(read_bytes(path, within))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and not a mapping.")
    return content


def _bounded(path: Path, size: int, limit: str, what: str = "") -> None:
    most = getattr(limits, limit)
    if size > most:
        raise UserError(f"{what}{path} has {size} bytes and at most {most} are read. {how_to_raise(limit)}")
