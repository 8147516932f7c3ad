"""Write files and directories that are complete or absent, and report disk errors in words a user can act on.

What is new is written beside its target under a leftover's name (`.<target>.partial`), fsynced and renamed;
what goes is renamed to one (`.<target>.removed`) before its files are deleted. A kill at any instant leaves
complete directories and leftovers, which `clean_leftovers` removes. One process writes to a place at a time.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rcc.errors import UserError, WorkError

PARTIAL, REMOVED = ".partial", ".removed"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
_OF_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory to fill; it becomes `target` when the block ends and is removed if it raises.

    Raises:
        UserError: `target` exists, or its place cannot be written to.
        WorkError: the disk is full or fails.
    """
    partial = _leftover(target, PARTIAL)
    with disk_errors(target):
        if target.exists():
            raise UserError(f"{target} exists already and is not overwritten: choose another path or remove it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        try:
            yield partial
            _sync_tree(partial)
            os.rename(partial, target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield the path of a file to write; it becomes `target` when the block ends and is removed if it raises.

    Raises:
        UserError: `target` exists, or its place cannot be written to.
        WorkError: the disk is full or fails.
    """
    with disk_errors(target):
        if target.exists():
            raise UserError(f"{target} exists already and is not overwritten: choose another path or remove it.")
        with replaced(target) as partial:
            yield partial


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """As `new_file`, for a `target` that may exist and is then replaced, all of it or nothing."""
    partial = _leftover(target, PARTIAL)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        try:
            yield partial
            _sync(partial)
            os.replace(partial, target)
            _sync(target.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_file(target: Path, content: bytes) -> None:
    """Write or replace one file so that a reader finds either the old content or all of the new.

    Raises:
        UserError: its place cannot be written to.
        WorkError: the disk is full or fails.
    """
    with replaced(target) as partial:
        partial.write_bytes(content)


def write_text(target: Path, text: str) -> None:
    """Write or replace one UTF-8 text file, as `write_file` does."""
    write_file(target, text.encode())


def remove_directory(target: Path) -> None:
    """Remove a directory; killed half-way, it leaves a leftover and never a `target` with files missing."""
    removed = _leftover(target, REMOVED)
    if not target.is_dir() or target.is_symlink():
        raise UserError(f"{target} is in the way and no directory that rcc made. Move it elsewhere.")
    with disk_errors(target):
        if removed.exists():
            shutil.rmtree(removed)
        os.rename(target, removed)
        shutil.rmtree(removed)


def clean_leftovers(directory: Path) -> None:
    """Remove what killed writes and removals left in `directory`, which may not exist yet."""
    with disk_errors(directory):
        for path in directory.glob(".*"):
            if path.name.endswith((PARTIAL, REMOVED)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into an error that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename is not None and Path(error.filename) != path:
            reason = f"{reason}: {error.filename}"
        if error.errno in FULL:
            raise WorkError(
                f"cannot write {path}: {reason}. Free some space or choose a folder on another disk."
            ) from error
        if error.errno in FORBIDDEN:
            raise UserError(
                f"cannot write {path}: {reason}. Choose a folder you may write to, or change its permissions."
            ) from error
        raise WorkError(f"cannot write {path}: {reason}.") from error


@contextmanager
def foreign_errors(path: Path) -> Iterator[None]:
    """Turn what a writer in another language raises when the system refuses it into the `OSError` that it stands for.

    Rust's errors end in '(os error <number>)'; SQLite's have codes of their own, under what wraps them.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = int(told[1]) if told else _errno_of_sqlite(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _errno_of_sqlite(error: BaseException | None) -> int | None:
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.__cause__ or error.__context__
    code = getattr(error, "sqlite_errorcode", None)  # its low byte is the kind of error, the others say more of it
    return None if code is None else _OF_SQLITE.get(code & 0xFF)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}. Check that it is there and that you may read it."
        ) from error


def _leftover(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}{suffix}")


def _sync_tree(directory: Path) -> None:
    for path in sorted(directory.rglob("*")):
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    """Force a file's bytes, or a directory's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
