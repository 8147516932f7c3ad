"""Conditions on fields: what they say, which rows meet them, and what cannot be asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rcc.errors import UserError
from rcc.store.filters import Condition, read_filter

FIELDS = {"year": "number", "label": "text", "seen": "truth"}


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("year>=2020", [Condition("year", ">=", 2020.0)]),
        ("year < 1e3 and label != dog", [Condition("year", "<", 1000.0), Condition("label", "!=", "dog")]),
        ("label='red dog' AND seen=true", [Condition("label", "=", "red dog"), Condition("seen", "=", True)]),
        ('label="a and b"', [Condition("label", "=", "a and b")]),
        ("label=2020", [Condition("label", "=", "2020")]),
    ],
)
def test_a_filter_says_its_conditions(text: str, conditions: list[Condition]) -> None:
    assert read_filter(text, FIELDS) == conditions


def test_rows_that_lack_a_field_meet_only_that_it_is_not_a_value() -> None:
    column = np.array([2019, 2020, None, 2021.5], dtype=object)
    for sign, wanted in (
        (">=", [0, 1, 0, 1]), ("<", [1, 0, 0, 0]), ("=", [0, 1, 0, 0]), ("!=", [1, 0, 1, 1]),
        (">", [0, 0, 0, 1]), ("<=", [1, 1, 0, 0]),
    ):  # fmt: skip
        assert Condition("year", sign, 2020.0).met(column).tolist() == [bool(each) for each in wanted]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("year", r"cannot be read at 'year'"),
        ("year>=2020 or seen=true", r"cannot be read at 'or seen=true'"),
        ("year>=2020 and ", r"cannot be read at ''"),
        ("label='open", "cannot be read"),
        ("yeer>=2020", "unknown field 'yeer'. Did you mean 'year'?"),
        ("year>=soon", "year is a number in this store, and 'soon' is none"),
        ("seen=yes", "write seen=true or seen=false"),
        ("seen<true", "write seen=true or seen=false"),
        ("'; drop", "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_filter(text, FIELDS)
    assert message in str(error.value)


def test_a_long_filter_is_read_in_time_that_grows_with_its_length() -> None:
    conditions: Any = read_filter(" and ".join(["year>=2020"] * 5000), FIELDS)
    assert len(conditions) == 5000
