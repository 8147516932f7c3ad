"""Trials are laid out over parallel axes of numbers and of names."""

from __future__ import annotations

from rcc.reporting.page.coordinates import ABSENT, ABSENT_AT, Through, coordinates


def through(key, kept=0.5, **values):
    return Through(key, values, kept, "trial", key)


def places(line):
    return [float(point.split(",")[1]) for point in line.points.split()]


def test_a_trial_is_a_line_through_its_values():
    plot = coordinates(["a", "b"], [through("one", 0.2, a=1.0, b="x"), through("two", 0.8, a=2.0, b="y")], {})
    one, two = plot.lines
    assert (one.key, one.level, two.level) == ("one", 0, 10)
    assert places(one)[0] > places(two)[0]  # larger numbers stand higher
    assert places(one)[1] < places(two)[1]  # names in order from above
    assert [text for _, text in plot.axes[1].ticks] == ["x", "y"]


def test_a_value_that_a_trial_lacks_has_a_place_of_its_own():
    plot = coordinates(["a", "b"], [through("one", a=1.0, b=1.0), through("two", a=2.0)], {})
    two = next(line for line in plot.lines if line.key == "two")
    assert places(two)[1] == ABSENT_AT
    assert plot.axes[1].ticks[-1] == (ABSENT_AT, ABSENT)


def test_ticks_are_written_in_their_unit():
    trials = [through("one", bytes=100_000.0, kept=0.5), through("two", bytes=400_000.0, kept=0.9)]
    trials = [Through(each.key, each.values | {"kept": each.kept}, each.kept, "trial", "") for each in trials]
    plot = coordinates(["bytes", "kept"], trials, {"bytes": "bytes", "kept": "share"})
    assert all(text.endswith("kB") for _, text in plot.axes[0].ticks)
    assert all(text.endswith("%") for _, text in plot.axes[1].ticks)


def test_fewer_than_two_trials_or_axes_make_no_plot():
    assert coordinates(["a", "b"], [through("one", a=1.0, b=2.0)], {}) is None
    assert coordinates(["a"], [through("one", a=1.0), through("two", a=2.0)], {}) is None


def test_an_axis_of_one_value_is_drawn():
    plot = coordinates(["a", "b"], [through("one", a=1.0, b="x"), through("two", a=1.0, b="x")], {})
    assert len(plot.lines) == 2
