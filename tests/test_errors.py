"""Errors that say everything at once, and the nearest name only where a name is wrong."""

from __future__ import annotations

from difflib import get_close_matches

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
