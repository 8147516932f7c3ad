"""Tell whether a process holds a lock file, without making one."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


def is_held(path: Path) -> bool:
    """Whether a process holds the lock; whatever ends it lets go of it."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # somebody else's file, which may not be opened to write: nothing is known of it
        return False
    lock.release()
    return False
