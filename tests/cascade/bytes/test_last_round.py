"""The search for the strength of a last round: on known answers."""

from __future__ import annotations

import json

import pytest

from rcc.cascade.bytes.last_round import Found, LastRound


def tries(*reached: tuple[float, int]) -> LastRound:
    """Of a target of 100 bytes, of which 20 are fixed; each try at (strength, bytes), planned at twice its matrices."""
    search = LastRound(100)
    for strength, nbytes in reached:
        search.add(Found(strength, 2.0 * (nbytes - 20), nbytes - 20, 20))
    return search


def test_without_a_try_nothing_is_known() -> None:
    search = LastRound(100)
    assert (search.known(), search.correction(), search.repeats) == (None, None, 0)
    assert not search.give_up(150, "steps")
    assert search.given_up == ""


def test_one_try_corrects_in_proportion_and_two_along_their_line() -> None:
    correct = tries((0.5, 120)).correction()
    assert correct is not None
    assert correct(160.0) == pytest.approx(100)
    search = tries((0.5, 140))
    search.add(Found(0.6, 200.0, 90, 20))
    correct = search.correction()
    assert correct is not None
    assert correct(240.0) == pytest.approx(140)
    assert correct(200.0) == pytest.approx(110)


def test_between_a_try_above_and_one_below_the_line_in_strength_decides() -> None:
    assert tries((0.4, 160), (0.5, 140)).known() is None
    assert tries((0.4, 160), (0.5, 120), (0.7, 80)).known() == pytest.approx(0.6)


def test_given_up_the_nearest_try_is_done_again_and_counted() -> None:
    search = tries((0.4, 130), (0.5, 110), (0.7, 80))
    assert search.give_up(85, "they come in steps")
    assert search.known() == 0.5
    assert search.repeats == 4
    assert not tries((0.4, 130)).give_up(120, "no earlier one is nearer")


def test_what_is_known_survives_json() -> None:
    search = tries((0.4, 130), (0.5, 110))
    search.give_up(150, "steps")
    again = LastRound(100)
    again.recall(json.loads(json.dumps(search.to_json())))
    assert again.to_json() == search.to_json()
    assert again.known() == search.known() == 0.5
