"""Kernels chosen by their times among those that are near enough, and times shared by units of one kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rcc.layers.form import Form
from rcc.layers.units import Unit, find_units
from rcc.runtime import choosing
from rcc.runtime.choosing import Chooser
from rcc.runtime.kernels import STORED

INPUT = torch.randn(5, 24, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def units() -> list[Unit]:
    """Two layers of one shape, one of another, and one that never runs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = {"one": nn.Linear(24, 24), "two": nn.Linear(24, 24), "last": nn.Linear(24, 8), "idle": nn.Linear(3, 3)}
    return find_units(nn.ModuleDict(layers))


def through(units: list[Unit]) -> Callable[[], Any]:
    one, two, last = (unit.module for unit in units[:3])
    return lambda: last(two(one(INPUT)))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], list[set[str]]]:
    """Seconds by kernel, 1 for all others, and the sets of kernels that were timed."""
    wanted: dict[str, float] = {}
    asked: list[set[str]] = []

    def interleaved(ways: dict[str, Any], *_: Any, **__: Any) -> dict[str, list[float]]:
        asked.append(set(ways))
        return {name: [wanted.get(name, 1.0)] for name in ways}

    monkeypatch.setattr(choosing, "interleaved", interleaved)
    return wanted, asked


def chooser(units: list[Unit], choice: str = "auto") -> Chooser:
    return Chooser({unit.name: unit.read() for unit in units}, torch.float32, choice, torch.device("cpu"))


@torch.no_grad()
def test_every_unit_that_runs_is_picked_and_units_of_a_kind_are_timed_once(units: list[Unit], timed: Any) -> None:
    picks, modules = chooser(units).choose(units, through(units), 0.999)
    assert [pick.unit for pick in picks] == ["one", "two", "last"]
    assert all(pick.rows == 5 for pick in picks)
    assert len(timed[1]) == 2
    assert modules.keys() <= {"one", "two", "last"}


@torch.no_grad()
def test_the_fastest_that_is_near_enough_wins_and_computes_the_same(units: list[Unit], timed: Any) -> None:
    wanted, _ = timed
    wanted["packed"] = 0.5
    picks, modules = chooser(units).choose(units, through(units), 0.999)
    assert {pick.kernel for pick in picks} == {"packed"}
    assert all(pick.cosine > 0.999 for pick in picks)
    torch.testing.assert_close(modules["one"](INPUT), units[0].module(INPUT), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_what_is_no_faster_stays_as_stored_and_is_not_replaced(units: list[Unit], timed: Any) -> None:
    timed[0][STORED] = 0.1
    picks, modules = chooser(units).choose(units, through(units), 0.999)
    assert {pick.kernel for pick in picks} == {STORED}
    assert modules == {}


@torch.no_grad()
def test_times_are_kept_between_passes(units: list[Unit], timed: Any) -> None:
    found = chooser(units)
    found.choose(units, through(units), 0.999)
    found.choose(units, through(units), 0.5)
    assert len(timed[1]) == 2


@torch.no_grad()
def test_a_low_rank_pair_is_of_another_kind_than_its_dense_neighbour(units: list[Unit], timed: Any) -> None:
    left, right = torch.randn(24, 4), torch.randn(4, 24)
    units[1].write(Form(left=left, right=right, bias=units[1].read().bias))
    picks, _ = chooser(units).choose(units, through(units), 0.0)
    assert [(pick.unit, pick.form, pick.rank) for pick in picks[:2]] == [("one", "S", None), ("two", "UV", 4)]
    assert len(timed[1]) == 3
