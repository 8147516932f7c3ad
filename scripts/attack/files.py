"""Put hostile things in the place of files: pipes, devices, links out of the folder, directories, sparse giants."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import hostile

GIANT = 1 << 40
"""Bytes that a sparse file says it has, on no space at all."""


def replaced(source: random.Random, path: Path) -> str:
    """Replace `path` by something that is no regular file of a sane size; returns a description."""
    kind = source.choice(("missing", "directory", "fifo", "zero", "outside", "loop", "giant", "unreadable text"))
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "outside":
        path.symlink_to("/etc/passwd")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "giant":
        with path.open("wb") as file:
            file.truncate(GIANT)
    elif kind == "unreadable text":
        path.write_bytes(b"\xff\xfe\xed\xa0\x80" * 20)
    return kind


def attacked(source: random.Random, folder: Path, of: Path, names: Sequence[str] = ()) -> str:
    """Copy the directory `of` to `folder` with one file of it (one of `names`, or any) attacked; says how."""
    shutil.copytree(of, folder, symlinks=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and (not names or path.name in names))
    path = source.choice(files)
    where = path.relative_to(folder)
    kind = source.random()
    if kind < 0.2:
        return f"{where}: {replaced(source, path)}"
    if path.suffix == ".json" and kind < 0.75:
        data, what = hostile.changed(source, json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(data), encoding="utf-8", errors="surrogatepass")
        return f"{where}: {what}"
    content, what = hostile.damaged(source, path.read_bytes())
    path.write_bytes(content)
    return f"{where}: {what}"
