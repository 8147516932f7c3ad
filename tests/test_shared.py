"""What trials of a sweep share: computed once, read to the bit, never taken where anything that decides it differs."""

from __future__ import annotations

import json
import threading
import time

import pytest

from rcc.shared import Shelf, shared, sharing

NUMBERS = [0.1, 1e-300, 3.141592653589793, float("inf")]


class Computing:
    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_without_a_sweep_everything_is_computed_and_nothing_asked(tmp_path):
    computing = Computing((1, 2))
    assert shared("it", lambda: pytest.fail("asked"), computing) == (1, 2)
    with sharing(None):
        assert shared("it", lambda: pytest.fail("asked"), computing) == (1, 2)
    with sharing(Shelf(tmp_path, {})):
        assert shared("it", lambda: None, computing) == (1, 2)
    assert (computing.calls, list(tmp_path.iterdir())) == (3, [])


def test_a_second_trial_reads_what_the_first_computed_to_the_bit(tmp_path):
    computing = Computing({"numbers": NUMBERS, "pair": (1, 2)})
    for taken in ([], ["it"]):
        shelf = Shelf(tmp_path / "shared", {"threads": 1})
        with sharing(shelf):
            assert shared("it", lambda: {"model": "a"}, computing) == {"numbers": NUMBERS, "pair": [1, 2]}
        assert list(shelf.taken) == taken
        assert bool(shelf.told) == bool(taken)
    assert computing.calls == 1


@pytest.mark.parametrize(
    ("what", "facts", "decides"),
    [("other", {"threads": 1}, {"model": "a"}), ("it", {"threads": 2}, {"model": "a"}), ("it", {}, {"model": "b"})],
)
def test_whatever_differs_is_computed_again(tmp_path, what, facts, decides):
    computing = Computing(1.5)
    with sharing(Shelf(tmp_path, {"threads": 1})):
        shared("it", lambda: {"model": "a"}, computing)
    with sharing(Shelf(tmp_path, facts)):
        shared(what, lambda: decides, computing)
    assert computing.calls == 2


@pytest.mark.parametrize("damage", ["value", "key", "format", "seconds", "torn"])
def test_a_damaged_file_is_computed_again_and_replaced(tmp_path, damage):
    computing = Computing(1.5)
    for _ in range(3):
        with sharing(Shelf(tmp_path, {})):
            assert shared("it", dict, computing) == 1.5
        (path,) = tmp_path.glob("*.json")
        if computing.calls == 1:
            text = path.read_text()
            path.write_text(text[:40] if damage == "torn" else json.dumps(json.loads(text) | {damage: "x"}))
    assert computing.calls == 2


def test_of_two_that_want_it_at_once_one_computes(tmp_path):
    calls = []

    def slow():
        calls.append(1)
        time.sleep(0.1)
        return 2

    def trial():
        with sharing(Shelf(tmp_path, {})):
            assert shared("it", dict, slow) == 2

    threads = [threading.Thread(target=trial) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
