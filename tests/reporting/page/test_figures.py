"""Plots are laid out with known places."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rcc.reporting.page.figures import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Point, lengths, scatter, whole
from rcc.reporting.page.scales import Scale, bytes_tick, linear, logarithmic, percent_tick


def test_points_lie_within_the_plot_with_more_bytes_to_the_right_and_more_quality_up():
    plot = scatter([Point("a", 1000, 0.5, 0.4, 0.6), Point("b", 10_000, 0.9), Point("c", 100_000, 1.0)])
    places = {dot.point.key: dot for dot in plot.dots}
    assert places["a"].x < places["b"].x < places["c"].x
    assert places["a"].y > places["b"].y > places["c"].y
    assert places["a"].top < places["a"].y < places["a"].bottom
    assert all(LEFT <= dot.x <= WIDTH - RIGHT and TOP <= dot.y <= HEIGHT for dot in plot.dots)
    assert places["b"].x - places["a"].x == pytest.approx(places["c"].x - places["b"].x, abs=0.2)  # by the logarithm


def test_the_front_is_a_staircase_that_holds_each_level_up_to_the_next_point():
    plot = scatter([Point("a", 100, 0.5, series="front"), Point("b", 200, 0.9, series="front"), Point("c", 150, 0.4)])
    corners = [tuple(map(float, corner.split(","))) for corner in plot.front.split()]
    first, second = (next(dot for dot in plot.dots if dot.point.key == key) for key in "ab")
    assert corners == [(first.x, first.y), (second.x, first.y), (second.x, second.y)]


def test_one_point_alone_is_drawn():
    plot = scatter([Point("a", 1, 1.0)])
    assert plot.front == ""
    assert plot.x_ticks
    assert plot.y_ticks
    assert scatter([]) is None


def test_joined_points_make_a_line_in_the_order_that_is_asked_for():
    plot = scatter([Point("a", 100, 0.5), Point("b", 200, 0.9)], joined=["b", "missing", "a"])
    first, second = (next(dot for dot in plot.dots if dot.point.key == key) for key in "ba")
    assert plot.path == f"{first.x},{first.y} {second.x},{second.y}"


def test_parts_fill_a_bar_largest_first():
    _, bars = whole("artifact", [("small", 25), ("large", 75)])
    assert [(bar.name, bar.start, bar.width) for bar in bars] == [("large", 0.0, 75.0), ("small", 75.0, 25.0)]
    assert whole("nothing", []) == ("nothing", [])


def test_bars_are_as_long_as_their_share_of_the_largest():
    rows = lengths([("a", 50), ("b", 100)]).rows
    assert [(name, bars[0].width) for name, bars in rows] == [("a", 50.0), ("b", 100.0)]
    assert lengths([]).rows == []


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 5.0], [1e-9, 1e-8], [1, 1e12]])
def test_axes_hold_their_values_and_have_ticks(values):
    for scale in (linear(values, 0, 100), logarithmic(values, 0, 100)):
        assert all(0 <= scale(value) <= 100 for value in values)
        assert 1 <= len(scale.ticks(bytes_tick)) <= 10


def test_ticks_that_are_too_near_are_left_out():
    scale = Scale(0.0, 10.0, 0, 100)
    places = [place for place, _ in scale.ticks(percent_tick, apart=30)]
    assert all(second - first >= 30 for first, second in pairwise(places))


def test_round_bytes_have_no_zeros_behind_the_point():
    assert [bytes_tick(value) for value in (100, 200_000, 1_500_000)] == ["100 B", "200 kB", "1.5 MB"]
