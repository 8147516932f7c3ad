"""Free memory goes back to the system, even below something that is in use."""

from __future__ import annotations

import psutil
import pytest
import torch

from rcc import memory as heap


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(heap._malloc_trim() is None, reason="the C library has no malloc_trim")
def test_what_is_free_below_memory_in_use_is_given_back() -> None:
    held = [torch.ones(1 << 14) for _ in range(2048)]  # 64 KiB each, 128 MiB in all, too small for maps of their own
    last = held.pop()
    held.clear()
    before = resident()
    heap.give_back_free_memory()
    assert before - resident() > 64 << 20
    assert bool((last == 1).all())


def test_nothing_happens_where_there_is_no_such_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    heap.give_back_free_memory()
