"""Values of options are judged by the annotations of what takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.errors import UserError
from rcc.option_types import fits, hints_of, wanted
from rcc.plugins import check_options

VALUES: dict[str, Any] = {
    "null": None, "true": True, "whole": 3, "number": 0.5, "text": "a", "texts": ["a"], "wholes": [1, 2],
    "map": {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("hint", "fit", "told"),
    [
        (int, "whole", "a whole number"),
        (float, "whole number", "a number"),
        (bool, "true", "true or false"),
        (str, "text", "one word or text"),
        (str | None, "text null", "one word or text or null"),
        (str | Path | None, "text null", "one word or text or null"),
        (int | None, "whole null", "a whole number or null"),
        (Sequence[str], "texts", "a list of texts"),
        (tuple[float, ...], "wholes", "a list of numbers"),
        (list[int] | None, "wholes null", "a list of whole numbers or null"),
        (Mapping[str, int], "map", "a mapping to whole numbers"),
        (dict[str, float] | None, "map null", "a mapping to numbers or null"),
        (Literal["a", "b"], "text", "'a' or 'b'"),
        (Any, " ".join(VALUES), "typing.Any"),
        (Callable[[int], int], "", "collections.abc.Callable[[int], int]"),
        (Path, "text", "one word or text"),
    ],
)
def test_a_value_fits_exactly_the_annotations_that_allow_it(hint: Any, fit: str, told: str) -> None:
    assert [name for name, value in VALUES.items() if fits(value, hint)] == sorted(fit.split(), key=[*VALUES].index)
    assert wanted(hint) == told


def test_every_wrong_type_is_told_with_its_option_before_the_call() -> None:
    def load(
        path: str | None = None, test: int = 3, share: float = 0.5, names: Sequence[str] = (), **rest: Any
    ) -> None:
        raise AssertionError("it is not called")

    with pytest.raises(UserError) as caught:
        check_options("data 'x'", load, {"path": 3, "test": True, "share": "much", "names": "a", "other": object()})
    assert caught.value.problems == (
        "data 'x': path is 3; it must be one word or text or null.",
        "data 'x': test is True; it must be a whole number.",
        "data 'x': share is 'much'; it must be a number.",
        "data 'x': names is 'a'; it must be a list of texts.",
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_no_value_breaks_the_check(value: Any) -> None:
    for hint in (int, float, bool, str, str | None, Sequence[Sequence[int]], Mapping[str, Any], Path, Any):
        assert fits(value, hint) in (True, False)


def test_annotations_that_cannot_be_read_are_not_judged() -> None:
    def odd(value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert hints_of(odd) == {}
