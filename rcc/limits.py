"""Bound what is read from files of strangers: regular files alone, inside their folder, up to sizes that can be raised.

Limits are attributes of `limits`: `rcc.limits.limits.text_bytes = 1 << 30` raises one for the process. They are far
above what published models need and far below what fills a machine.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcc.errors import UserError


@dataclass
class Limits:
    """The largest sizes that a file may have or declare.

    text_bytes: of a file that is read whole (JSON, a vocabulary).
    layers: of a model, for each of its layer counts.
    width: of a hidden layer, a projection, or a row of attention heads.
    tokens: of a vocabulary, and of a text.
    image_side: height or width in pixels that a model takes or a processor makes.
    expansion: bytes of all tensors of an artifact in memory for each byte of its weights on disk, beyond `slack`
        bytes. A matrix of zeros takes no bytes at all, so that some limit must be set; real models stay below 1000.
    """

    text_bytes: int = 256 << 20
    layers: int = 1024
    width: int = 1 << 17
    tokens: int = 1 << 22
    image_side: int = 4096
    expansion: int = 4096
    slack: int = 256 << 20


limits = Limits()


def regular_file(path: Path, within: Path | None = None, most: int | None = None) -> Path:
    """`path`, once it is known to be a regular file that may be read.

    Args:
        within: a folder that the file must lie in after links are followed.
        most: bytes that it may have.

    Raises:
        UserError: a FIFO, a device or a folder, a link that leads out of `within`, or too many bytes.
        FileNotFoundError: there is none.
    """
    resolved = path.resolve()
    found = resolved.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is no regular file, and nothing else is read. Replace it by the file itself.")
    if within is not None and not resolved.is_relative_to(within.resolve()):
        raise UserError(f"{path} is a link out of {within}, which is not followed. Replace it by the file itself.")
    if most is not None and found.st_size > most:
        raise UserError(
            f"{path} has {found.st_size} bytes and at most {most} are read. If it is sound, raise the limit:"
            " rcc.limits.limits.text_bytes."
        )
    return path


def read_json(path: Path, within: Path | None = None) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        UserError: it is no file to read, or not JSON with a mapping at the top; names the file.
    """
    try:
        content = json.loads(regular_file(path, within, limits.text_bytes).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and not a mapping.")
    return content
