"""Times of work are laid out with idle times cut short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rcc.reporting.page.timeline import LEFT, RIGHT, WIDTH, Work, timeline
from rcc.reporting.recorded.run import Span

START = datetime(2026, 11, 20, tzinfo=UTC)


def work(row, begin, end, status="finished"):
    first, last = START + timedelta(seconds=begin), START + timedelta(seconds=end)
    return Work(row, Span(first, last, status), last, row)


def test_bars_are_as_long_as_the_times_and_fill_the_width():
    plot = timeline([work("a", 0, 10), work("b", 10, 40)])
    first, second = plot.bars
    assert (first.x, second.x + second.width) == (LEFT, WIDTH - RIGHT)
    assert second.width == pytest.approx(3 * first.width, abs=0.3)
    assert plot.gaps == ()
    assert [name for _, name in plot.rows] == ["a", "b"]


def test_a_long_idle_time_is_cut_short_and_told():
    plot = timeline([work("a", 0, 50), work("a", 50 + 36_000, 100 + 36_000)])
    (gap,) = plot.gaps
    assert gap.text == "nothing ran for 10h 00m"
    assert gap.width == pytest.approx(0.04 / 1.04 * (WIDTH - LEFT - RIGHT), abs=0.3)
    assert (plot.worked, plot.idle) == ("1m 40s", "10h 00m")
    assert plot.bars[0].width == pytest.approx(plot.bars[1].width, abs=0.2)


def test_a_short_idle_time_is_drawn_as_it_was():
    plot = timeline([work("a", 0, 100), work("a", 105, 200)])
    assert plot.gaps == ()
    assert plot.idle == "5.00 s"


def test_times_side_by_side_count_once():
    assert timeline([work("a", 0, 60), work("b", 30, 90)]).worked == "1m 30s"


def test_many_rows_share_as_few_as_their_times_allow():
    plot = timeline([work(f"trial {number}", 10 * (number // 2), 10 * (number // 2) + 10) for number in range(100)])
    assert len({bar.y for bar in plot.bars}) == 2
    assert plot.rows == ()


def test_an_instant_is_seen():
    (bar,) = timeline([work("a", 0, 0)]).bars
    assert bar.width >= 1.5
    assert timeline([]) is None
