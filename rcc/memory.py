"""Measure the memory that a process and a pass of a model take, and return freed memory to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""cgroups(7), version 2: a number of bytes, or 'max'."""
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


def machine_bytes(device: torch.device | None = None) -> int:
    """All memory that this process may use: of the machine, or of the control group that it is confined to; of an
    accelerator its own."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    total = int(psutil.virtual_memory().total)
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


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


def give_back_free_memory() -> None:
    """Return the free pages of the heap to the system; does nothing where the C library has no `malloc_trim`.

    Takes milliseconds, and as much again where that memory is needed later. malloc_trim(3): since glibc 2.8 it
    returns whole free pages wherever they lie.
    """
    # Tensors under 32 MiB come from the C library's heap, which glibc shrinks from its end alone: one that is still in
    # use keeps all the free memory below it resident. A pass over a model frees and takes such tensors of many sizes,
    # and what is free came to half of what is in use (docs/method/calibration.md).
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


@torch.no_grad()
def peak_bytes(run: Callable[[], object], module: nn.Module) -> int:
    """Most bytes alive at once in one call of `run`: parameters, buffers, inputs and activations.

    Counted are storages, so that views and tied weights count once, from the operation that makes one until Python
    lets it go. The same on every device and in every process, unlike what an allocator holds; scratch memory inside
    one operation is not seen.
    """
    with _Alive() as alive:
        alive.see((*module.parameters(), *module.buffers()))
        run()
    return alive.most


class _Alive(TorchDispatchMode):
    """Notes the storage of every tensor that an operation reads or makes, for as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._held = WeakIdKeyDictionary()

    def see(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._held.update(_memory(tensor))
        self.most = max(self.most, sum(self._held.values()))

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        self.see((args, kwargs, result))
        return result


def _memory(tensor: Tensor) -> list[tuple[Any, int]]:
    """What holds the values of `tensor`, and its bytes; a layout of oneDNN's own hides its padding."""
    if tensor.layout is torch.sparse_csr:
        parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
        return [memory for part in parts for memory in _memory(part)]
    if tensor.layout is not torch.strided:
        return [(tensor, tensor.numel() * tensor.element_size())]
    storage = tensor.untyped_storage()
    return [(storage, storage.nbytes())]
