"""Peaks of blocks, heap memory given back to the system, and bytes alive in a pass against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rcc import memory
from rcc.memory import Meter, give_back_free_memory, peak_bytes, resident_bytes

MIB = 1 << 20
WEIGHTS = 4 * (20 * 10 + 5 * 20)


def allocate(mebibytes: int) -> int:
    """Touch that much memory and give it back to the system at once (mapped: the allocator keeps none)."""
    import mmap

    with mmap.mmap(-1, mebibytes * MIB) as block:
        for offset in range(0, len(block), mmap.PAGESIZE):
            block[offset] = 1
    return mebibytes


def test_the_peak_of_a_block_holds_what_it_allocated_and_freed():
    before = resident_bytes()
    with Meter() as meter:
        allocate(64)
    assert meter.peak_bytes >= before + 60 * MIB
    assert meter.seconds > 0


def test_a_later_block_does_not_inherit_an_earlier_peak():
    with Meter() as first:
        allocate(96)
    with Meter() as second:
        pass
    assert second.peak_bytes <= first.peak_bytes - 64 * MIB


def test_the_peak_of_an_inner_block_counts_for_the_outer_one():
    with Meter() as outer:
        with Meter() as early:
            allocate(64)
        with Meter() as late:
            pass
    assert outer.peak_bytes >= early.peak_bytes > late.peak_bytes


def test_the_peak_before_an_inner_block_is_not_lost_by_its_reset():
    with Meter() as outer:
        allocate(64)
        with Meter() as inner:
            pass
    assert outer.peak_bytes >= inner.peak_bytes + 48 * MIB


def test_an_exception_passes_and_is_still_measured():
    meter = Meter()
    with pytest.raises(ZeroDivisionError), meter:
        1 / 0  # noqa: B018
    assert meter.seconds > 0
    assert meter.peak_bytes > 0
    assert Meter._running == []


def test_without_a_resettable_peak_the_lifetime_peak_counts_only_if_the_block_raised_it(monkeypatch):
    monkeypatch.setattr(memory, "_reset_peak", lambda: False)
    peaks = iter([500, 500])
    monkeypatch.setattr(memory, "_lifetime_peak", lambda: next(peaks))
    monkeypatch.setattr(memory, "resident_bytes", lambda: 300)
    with Meter() as quiet:
        pass
    assert quiet.peak_bytes == 300
    peaks = iter([500, 900])
    with Meter() as raised:
        pass
    assert raised.peak_bytes == 900


def test_where_proc_is_missing_the_peak_comes_from_the_system_call(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "missing" / "too")
    with Meter() as meter:
        pass
    assert meter.peak_bytes >= 10 * MIB


@pytest.mark.skipif(memory._malloc_trim() is None, reason="the C library has no malloc_trim")
def test_what_is_free_below_memory_in_use_is_given_back() -> None:
    held = [torch.ones(1 << 14) for _ in range(2048)]  # 64 KiB each, 128 MiB in all, too small for maps of their own
    last = held.pop()
    held.clear()
    before = resident_bytes()
    give_back_free_memory()
    assert before - resident_bytes() > 64 << 20
    assert bool((last == 1).all())


def test_nothing_happens_where_there_is_no_such_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    give_back_free_memory()


def test_weights_input_and_the_widest_pair_of_activations_are_counted():
    net = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
    x = torch.randn(7, 10)
    assert peak_bytes(lambda: net(x), net) == WEIGHTS + 4 * 7 * (10 + 20 + 20)
    net[1] = nn.ReLU(inplace=True)
    assert peak_bytes(lambda: net(x), net) == WEIGHTS + 4 * 7 * (10 + 20 + 5)


def test_views_and_tied_weights_count_once_and_unused_ones_count():
    net = nn.ModuleList([nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)])
    net[1].weight = net[0].weight
    x = torch.randn(4, 8)
    assert peak_bytes(lambda: x.view(8, 4).t().unsqueeze(0), net) == 4 * (2 * 64 + 32)


def test_what_is_let_go_no_longer_counts():
    net = nn.Linear(1, 1, bias=False)

    def run():
        for _ in range(5):
            torch.ones(1000).add(1)

    assert peak_bytes(run, net) == 4 + 2 * 4000


def test_a_low_rank_pair_takes_less_than_the_matrix_it_stands_for():
    x = torch.randn(2, 64)
    whole = nn.Linear(64, 64, bias=False)
    pair = nn.Sequential(nn.Linear(64, 4, bias=False), nn.Linear(4, 64, bias=False))
    assert peak_bytes(lambda: whole(x), whole) == 4 * (64 * 64 + 2 * 2 * 64)
    assert peak_bytes(lambda: pair(x), pair) == 4 * (2 * 4 * 64 + 2 * (64 + 4 + 64))


def test_sparse_rows_count_their_indices_and_values():
    matrix = torch.eye(16).to_sparse_csr()
    x = torch.randn(16, 3)
    found = peak_bytes(lambda: matrix @ x, nn.Identity())
    index = matrix.col_indices().element_size()
    assert found >= 17 * index + 16 * index + 16 * 4 + 4 * 48 * 2
