"""Errors that say everything at once, and the nearest name only where a name is wrong."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import pytest
from toys.calls import counted

from rcc.errors import Problems, UserError, WorkError, nearest, unknown


def test_all_problems_are_one_error_in_the_order_they_were_found() -> None:
    problems = Problems("stage 'dare'")
    assert not problems.check(False, "one.")
    assert problems.check(True, "two.")
    problems.choice("solver", "amdm", ["obs", "admm"])
    with pytest.raises(UserError) as error:
        problems.done()
    assert error.value.problems == (
        "stage 'dare': one.",
        "stage 'dare': unknown solver 'amdm'. Did you mean 'admm'? Available: admm, obs.",
    )


def test_nothing_found_is_no_error_and_no_place_is_no_prefix() -> None:
    problems = Problems()
    problems.done()
    problems.check(False, "plain.")
    assert problems.found == ["plain."]


def test_a_name_near_none_gets_no_suggestion_and_no_choices_are_said() -> None:
    assert nearest("zzz", ["dare", "nullu"]) == ""
    assert unknown("stage", "dare", []) == "unknown stage 'dare'. Available: none."


def test_the_input_and_the_work_fail_with_codes_of_their_own() -> None:
    assert (UserError("a").exit_code, WorkError("a").exit_code) == (2, 1)


def test_a_name_that_cannot_be_encoded_is_shown_escaped() -> None:
    assert str(UserError("no file '\udcff'")) == r"no file '\udcff'"
    assert str(WorkError("\ud800")) == r"\ud800"


def test_near_names_are_looked_for_only_where_a_name_is_unknown() -> None:
    problems = Problems()
    with counted(get_close_matches) as calls:
        assert problems.choice("dtype", "float32", ["float32", "float16"])
        assert calls == {"get_close_matches": 0}
        assert not problems.choice("dtype", "float23", ["float32", "float16"])
    assert calls == {"get_close_matches": 1}


@pytest.mark.parametrize(
    ("check", "taken", "refused", "wanted"),
    [
        (lambda p, v: p.within("x", v, "[0, 1)"), [0, 0.5, 0.999], [-0.1, 1, 1.0, float("nan")], "a number in [0, 1)"),
        (lambda p, v: p.within("x", v, "(0, 1]"), [1, 1e-9], [0, 0.0, 1.1], "a number in (0, 1]"),
        (lambda p, v: p.positive("x", v), [1, 1e-9], [0, -1, float("inf"), float("nan")], "a number above 0"),
        (lambda p, v: p.at_least("x", v, 0), [0, 7.5], [-1, float("inf")], "a number from 0 up"),
        (lambda p, v: p.finite("x", v), [-3, 0.0], [float("inf"), float("nan")], "a finite number"),
        (lambda p, v: p.whole("x", v, 1), [1, 10**9], [0, 1.0], "a whole number from 1 up"),
        (lambda p, v: p.whole("x", v, 2, 8), [2, 8], [1, 9], "a whole number from 2 to 8"),
    ],
)
def test_a_check_of_a_number_takes_numbers_alone_and_says_what_was_found_and_wanted(
    check: Any, taken: list[Any], refused: list[Any], wanted: str
) -> None:
    problems = Problems()
    assert all(check(problems, value) for value in taken)
    assert problems.found == []
    for value in [*refused, True, "1", [1], None, {}]:
        assert not check(problems, value)
        assert problems.found.pop() == f"x is {value!r}; it must be {wanted}."


def test_flags_and_paths_are_no_numbers() -> None:
    problems = Problems("here")
    assert problems.flag("on", False)
    assert problems.path("file", "a/b")
    assert not problems.flag("on", 1)
    assert not problems.path("file", "")
    assert problems.found == ["here: on is 1; it must be true or false.", "here: file is ''; it must be a path."]


def test_the_problems_of_what_is_built_are_told_with_the_rest() -> None:
    problems = Problems("here")
    built = []
    with problems.collecting():
        built.append("one")
    with problems.collecting():
        raise UserError("one.", "two.")
    with pytest.raises(ZeroDivisionError), problems.collecting():
        raise ZeroDivisionError
    assert (built, problems.found) == (["one"], ["here: one.", "here: two."])
