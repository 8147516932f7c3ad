"""Memory that was freed and is still the process's: given back to the system.

Tensors under 32 MiB come from the C library's heap, which glibc shrinks from its end alone: one that is still in use
keeps all the free memory below it resident. A pass over a model frees and takes such tensors of many sizes, and what
is free came to half of what is in use (docs/method/calibration.md).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back_free_memory() -> None:
    """Return to the system what is free in the heap; does nothing where the C library has no `malloc_trim`.

    Takes milliseconds, and as much again where that memory is needed later. malloc_trim(3): since glibc 2.8 it
    returns whole free pages wherever they lie.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
