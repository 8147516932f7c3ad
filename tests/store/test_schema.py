"""Rows before they are written: what of them is kept, and types that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rcc.errors import UserError
from rcc.store.schema import checked_fields, checked_ids, unit_vectors


def test_vectors_come_to_length_one_whatever_they_are_given_as() -> None:
    for given in ([3.0, 4.0], [[3.0, 4.0]], np.array([3, 4]), np.array([[3, 4]], np.float64)):
        found = unit_vectors("vectors", given, 2)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [[0.6, 0.8]], atol=1e-7)


def test_fields_that_are_none_are_lacking_and_types_are_those_of_the_first() -> None:
    rows, types = checked_fields([{"year": 2000, "label": None}, {"label": "dog", "seen": True}], 2, {"year": "number"})
    assert rows == [{"year": 2000}, {"label": "dog", "seen": True}]
    assert types == {"year": "number", "label": "text", "seen": "truth"}
    assert checked_fields(None, 2, {}) == ([{}, {}], {})
    assert checked_fields([{"year": 1.5}], 1, {"year": "number"})[0] == [{"year": 1.5}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [], {}, b"a", "\ud800", object()])
def test_a_value_that_no_file_holds_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"row 0: year is .*; a field is a text, a finite number, or true or false"):
        checked_fields([{"year": value}], 1, {})


@pytest.mark.parametrize(("known", "value"), [("number", True), ("truth", 1), ("text", 3), ("number", "3")])
def test_a_field_keeps_its_type(known: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"in this store it is a {known}"):
        checked_fields([{"field": value}], 1, {"field": known})


@pytest.mark.parametrize("name", ["id", "score", "two words", "", "1st", 3])
def test_a_name_that_no_filter_could_ask_for_is_refused(name: Any) -> None:
    with pytest.raises(UserError, match="is no name of a field"):
        checked_fields([{name: 3}], 1, {})


def test_ids_are_texts_each_once() -> None:
    assert checked_ids("a", 1) == ["a"]
    assert checked_ids(("a", "b"), 2) == ["a", "b"]
    for wrong in ([""], ["a" * 5000], [None], ["a\0"]):
        with pytest.raises(UserError, match="an id is a text of 1 to 4096 characters"):
            checked_ids(wrong, 1)  # type: ignore[arg-type]


def test_a_hundred_thousand_ids_are_checked_at_once() -> None:
    many = [str(place) for place in range(100_000)]
    assert checked_ids(many, len(many)) == many
    with pytest.raises(UserError, match="7 come more than once"):
        checked_ids([*many, "7"], len(many) + 1)
