"""Mount a disk of few bytes or few files for one process, which sees it alone and with which it goes."""

from __future__ import annotations

import contextlib
import ctypes
import os
from functools import cache
from pathlib import Path

# Numbers of Linux's sched.h and mount.h.
NEW_MOUNTS, NEW_USER, RECURSIVE, PRIVATE = 0x20000, 0x10000000, 1 << 14, 1 << 18


@cache
def may_mount() -> bool:
    """Whether this user may mount a disk of its own here; tried in a child."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            mount(Path("/tmp"), "size=4k")
            code = 0
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def mount(folder: Path, options: str) -> None:
    """Mount an empty tmpfs on `folder`, for this process and its children alone.

    Args:
        options: as mount(8) takes them for a tmpfs: size=<bytes>, nr_inodes=<number>.

    Raises:
        OSError: this user may not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    _checked(libc.unshare(NEW_MOUNTS | (NEW_USER if user else 0)))
    if user:  # root in a namespace of its own, and itself outside
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _checked(libc.mount(b"none", b"/", None, ctypes.c_ulong(RECURSIVE | PRIVATE), None))
    _checked(libc.mount(b"none", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options.encode()))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
