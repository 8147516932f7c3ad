"""What a piece of work cost: seconds of wall time and the peak of resident memory, measured by a `Meter`."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Self

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): writing 5 sets the peak (VmHWM) back to what is resident now


class Meter:
    """Times a `with` block and notes the largest resident memory while it ran.

    `seconds` and `peak_bytes` (of the whole process) are set when the block ends, also by an exception.
    Meters nest: the peak of an inner block counts for the outer ones too.

    Linux gives the exact peak of the block. Elsewhere the peak of the process is used if the block raised it,
    and otherwise what was resident at the two ends, which is then a lower bound.
    """

    _running: list[Meter] = []  # noqa: RUF012 - shared on purpose: the kernel keeps one peak per process

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._observe()
        self._exact = _reset_peak()
        self._lifetime_peak = 0 if self._exact else _lifetime_peak()
        self.peak_bytes = resident_bytes()
        self._running.append(self)
        self._start = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = perf_counter() - self._start
        self._observe()
        self._running.remove(self)

    @classmethod
    def _observe(cls) -> None:
        """Let every running meter see the peak since the last reset."""
        for meter in cls._running:
            peak = _lifetime_peak()
            known = peak if meter._exact or peak > meter._lifetime_peak else 0
            meter.peak_bytes = max(meter.peak_bytes, known, resident_bytes())


def resident_bytes() -> int:
    """Bytes of the process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def _reset_peak() -> bool:
    """Set the kernel's peak back to what is resident now; False where that is not possible."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:  # not Linux, or a container that mounts /proc read-only
        return False
    return True


def _lifetime_peak() -> int:
    """Peak resident bytes since the process started or the kernel's peak was last reset; 0 if unknown."""
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024  # the kernel says kB and means KiB
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
