"""The search for the strength of a last round: on known answers."""

from __future__ import annotations

import json

import pytest

from rcc.cascade.bytes.last_round import SecantSearch, Trial


def trials(*reached: tuple[float, int]) -> SecantSearch:
    """Of a target of 100 bytes, 20 of them fixed; each trial at (strength, bytes), planned at twice its matrices."""
    search = SecantSearch(100)
    for strength, nbytes in reached:
        search.add(Trial(strength, 2.0 * (nbytes - 20), nbytes - 20, 20))
    return search


def test_without_a_trial_nothing_is_known() -> None:
    search = SecantSearch(100)
    assert (search.strength(), search.correction(), search.repeats) == (None, None, 0)
    assert not search.has_nearer(150)


def test_one_trial_corrects_in_proportion_and_two_along_their_line() -> None:
    correct = trials((0.5, 120)).correction()
    assert correct is not None
    assert correct(160.0) == pytest.approx(100)
    search = trials((0.5, 140))
    search.add(Trial(0.6, 200.0, 90, 20))
    correct = search.correction()
    assert correct is not None
    assert correct(240.0) == pytest.approx(140)
    assert correct(200.0) == pytest.approx(110)


def test_between_a_trial_above_and_one_below_the_line_in_strength_decides() -> None:
    assert trials((0.4, 160), (0.5, 140)).strength() is None
    assert trials((0.4, 160), (0.5, 120), (0.7, 80)).strength() == pytest.approx(0.6)


def test_once_exhausted_the_nearest_trial_is_done_again_and_counted() -> None:
    search = trials((0.4, 130), (0.5, 110), (0.7, 80))
    assert search.has_nearer(85)
    search.end("they come in steps")
    assert search.strength() == 0.5
    assert search.repeats == 4
    assert not trials((0.4, 130)).has_nearer(120)


def test_what_is_known_survives_json() -> None:
    search = trials((0.4, 130), (0.5, 110))
    search.end("steps")
    again = SecantSearch(100)
    again.recall(json.loads(json.dumps(search.to_json())))
    assert again.to_json() == search.to_json()
    assert again.strength() == search.strength() == 0.5
