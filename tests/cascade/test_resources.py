"""The meter: peaks that belong to the block they happened in, and nest."""

from __future__ import annotations

import pytest

from rcc.cascade import resources
from rcc.cascade.resources import Meter, resident_bytes

MIB = 1 << 20


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
    monkeypatch.setattr(resources, "_reset_peak", lambda: False)
    peaks = iter([500, 500])
    monkeypatch.setattr(resources, "_lifetime_peak", lambda: next(peaks))
    monkeypatch.setattr(resources, "resident_bytes", lambda: 300)
    with Meter() as quiet:
        pass
    assert quiet.peak_bytes == 300
    peaks = iter([500, 900])
    with Meter() as raised:
        pass
    assert raised.peak_bytes == 900


def test_where_proc_is_missing_the_peak_comes_from_the_system_call(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_STATUS", tmp_path / "missing")
    monkeypatch.setattr(resources, "_CLEAR_REFS", tmp_path / "missing" / "too")
    with Meter() as meter:
        pass
    assert meter.peak_bytes >= 10 * MIB
