"""The rounds of the timing, on a clock of the test's own."""

import torch

from rcc.runtime import timing
from rcc.runtime.timing import interleaved, quantile

CPU = torch.device("cpu")


class Clock:
    """Time that passes only where a way says so."""

    def __init__(self, monkeypatch):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def way(self, name, *seconds):
        lasting = list(seconds)

        def run():
            self.order.append(name)
            self.now += lasting.pop(0) if len(lasting) > 1 else lasting[0]

        return run


def test_ways_take_turns_and_their_first_two_calls_do_not_count(monkeypatch):
    clock = Clock(monkeypatch)
    taken = interleaved({"a": clock.way("a", 9, 5, 1), "b": clock.way("b", 2)}, CPU, least=3, seconds=0)
    assert taken == {"a": [1, 1, 1], "b": [2, 2, 2]}
    assert "".join(clock.order) == "ab" * 5


def test_rounds_go_on_until_the_time_is_up_or_there_are_enough(monkeypatch):
    clock = Clock(monkeypatch)
    assert len(interleaved({"a": clock.way("a", 1)}, CPU, least=2, most=50, seconds=10)["a"]) == 11
    assert len(interleaved({"a": clock.way("a", 1)}, CPU, least=2, most=4, seconds=10)["a"]) == 4


def test_a_way_that_is_hopelessly_slow_twice_is_not_called_again(monkeypatch):
    clock = Clock(monkeypatch)
    ways = {"quick": clock.way("q", 1), "slow": clock.way("s", 100), "late": clock.way("l", 100, 1)}
    taken = interleaved(ways, CPU, least=3, seconds=0)
    assert taken == {"quick": [1, 1, 1], "slow": [100], "late": [1, 1, 1]}
    assert clock.order.count("s") == 2


def test_what_is_done_before_a_way_is_off_the_clock(monkeypatch):
    clock = Clock(monkeypatch)
    taken = interleaved({"a": clock.way("a", 1)}, CPU, {"a": clock.way("before", 7)}, least=2, seconds=0)
    assert taken == {"a": [1, 1]}
    assert clock.order == ["before", "a"] * 4


def test_quantiles_are_linear_between_neighbours():
    assert quantile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert quantile([3.0], 0.95) == 3.0
