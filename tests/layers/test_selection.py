from __future__ import annotations

import pytest
from torch import nn

from rcc.errors import UserError
from rcc.layers.selection import Selection
from rcc.layers.units import Unit, find_units


@pytest.fixture
def units() -> list[Unit]:
    def block() -> nn.ModuleDict:
        return nn.ModuleDict({"words": nn.Embedding(5, 4), "up": nn.Linear(4, 8), "norm": nn.LayerNorm(4)})

    model = nn.ModuleDict({"vision": block(), "text": block()})
    model["one"], model["two"] = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    model["two"].weight = model["one"].weight
    return find_units(model)


def chosen(selection: Selection, units: list[Unit]) -> list[str]:
    return [unit.name for unit in selection.split(units, default_roles=("linear",))[0]]


def test_the_default_takes_the_default_roles_and_says_why_not_the_rest(units: list[Unit]) -> None:
    taken, skipped = Selection().split(units, default_roles=("linear",))
    assert [unit.name for unit in taken] == ["vision.up", "text.up"]
    assert {skip.name: skip.reason for skip in skipped} == {
        "vision.words": "role 'embedding' is left alone unless asked",
        "vision.norm": "role 'norm' is left alone unless asked",
        "text.words": "role 'embedding' is left alone unless asked",
        "text.norm": "role 'norm' is left alone unless asked",
        "one": "tied with two; left alone unless named in include",
    }


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(include=["*.words"]), ["vision.words", "text.words"]),
        (Selection(include=["one"]), ["one"]),
        (Selection(include="text.*"), ["text.words", "text.up", "text.norm"]),
        (Selection(include=["text.*"], exclude=["*.norm"]), ["text.words", "text.up"]),
        (Selection(towers=["text"]), ["text.up"]),
        (Selection(roles=["norm", "embedding"], towers=["vision"]), ["vision.words", "vision.norm"]),
        (Selection(exclude=["vision.*"]), ["text.up"]),
    ],
)
def test_patterns_roles_and_towers_choose(selection: Selection, names: list[str], units: list[Unit]) -> None:
    assert chosen(selection, units) == names


def test_every_unit_is_either_taken_or_skipped(units: list[Unit]) -> None:
    taken, skipped = Selection(include=["*.up"], towers=["text"]).split(units, ("linear",))
    assert sorted([unit.name for unit in taken] + [skip.name for skip in skipped]) == sorted(
        unit.name for unit in units
    )


def test_all_that_matches_nothing_is_reported_at_once_with_what_exists(units: list[Unit]) -> None:
    selection = Selection(include=["*.upp"], exclude=["zzz"], roles=["lineer"], towers=["txt"])
    with pytest.raises(UserError) as caught:
        selection.split(units, ("linear",))
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "Did you mean 'linear'? Available: embedding, linear, norm." in text
    assert "Did you mean 'text'?" in text
    assert "'*.upp' matches none of the 7 units" in text


def test_nothing_left_to_compress_is_an_error_that_says_why(units: list[Unit]) -> None:
    with pytest.raises(UserError, match=r"nothing to compress: all 7 units.*dry_run=true"):
        Selection(include=["one"], exclude=["one"]).split(units, ("linear",))
    with pytest.raises(UserError, match="all 0 units"):
        Selection().split([], ("linear",))


def test_a_unit_with_an_obstacle_is_never_taken() -> None:
    units = find_units(
        nn.ModuleDict({"a": nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "b": nn.Linear(2, 2)})
    )
    taken, skipped = Selection(include=["*"]).split(units, ("linear", "conv"))
    assert [unit.name for unit in taken] == ["b"]
    assert skipped[0].reason == "padding_mode 'reflect' cannot be held in the form"
