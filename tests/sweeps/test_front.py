"""The front and the hypervolume of hand-made points."""

from __future__ import annotations

import pytest

from rcc.sweeps.front import hypervolume, on_front


def test_the_front_is_what_no_other_point_beats():
    points = [(0.9, 100), (0.95, 200), (0.8, 150), (0.95, 250), (0.99, 300)]
    assert on_front(points) == [True, True, False, False, True]


def test_equal_points_are_on_the_front_together():
    assert on_front([(0.9, 100), (0.9, 100)]) == [True, True]


@pytest.mark.parametrize(
    ("points", "largest", "covered"),
    [
        ([], 100, 0.0),
        ([(1.0, 25)], 100, 0.75),
        ([(0.5, 50), (1.0, 75)], 100, 0.375),
        ([(0.5, 50), (0.4, 60)], 100, 0.25),
        ([(1.2, 50)], 100, 0.5),
        ([(1.0, 150)], 100, 0.0),
        ([(1.0, 1)], 0, 0.0),
    ],
)
def test_the_hypervolume_is_the_area_that_is_covered(points, largest, covered):
    assert hypervolume(points, largest) == pytest.approx(covered)
