"""Values of records: taken where they are of the kind that is wanted, else told by place, kind and content."""

from __future__ import annotations

from typing import Any

import pytest

from rcc.data.files.records import sentences, taken


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        (" a cat ", ["a cat"]),
        (["a", "", "b"], ["a", "b"]),
        ([{"raw": "a", "tokens": ["a"]}, {"raw": " "}], ["a"]),
        ({"raw": ["a", "b"]}, ["a", "b"]),
        ({"other": "a"}, []),
        (None, []),
    ],
)
def test_captions_are_found_in_every_cell_that_holds_them(cell: Any, found: list[str]) -> None:
    assert sentences(cell) == found


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (7, r"the caption is 7 \(int\) and not a text"),
        (["a", 1.5], r"the caption is 1\.5 \(float\) and not a text"),
        ({"raw": True}, r"the caption is True \(bool\)"),
        ("a \ud800 b", r"the caption holds '\\ud800', half of a pair of surrogates"),
    ],
)
def test_a_cell_that_holds_something_else_is_told(cell: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sentences(cell)


@pytest.mark.parametrize(
    ("record", "kind", "told"),
    [
        ([1], str, r"image 3 is \[1\] \(list\) and no record"),
        ({"b": 1}, str, "image 3 has no 'a'"),
        ({"a": ["x"] * 100}, str, r"'a' of image 3 is \['x', .*… \(list\) and not a text"),
        ({"a": True}, int, r"'a' of image 3 is True \(bool\) and not a whole number"),
    ],
)
def test_a_value_of_another_kind_is_told_by_its_place(record: Any, kind: type[Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        taken(record, "a", kind, "image 3")
    assert taken({"a": 4}, "a", int, "it") == 4
