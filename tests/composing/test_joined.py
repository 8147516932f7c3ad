"""The grammar of `stage=` and `eval=`, apart from Hydra."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.composing import joined
from rcc.errors import UserError

NAMES = st.lists(st.sampled_from(["dare", "nullu", "alpha", "dare_2"]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("dare", [("dare", "dare")]),
        ("nullu+dare", [("nullu", "nullu"), ("dare", "dare")]),
        ("dare+nullu+dare", [("dare", "dare"), ("nullu", "nullu"), ("dare_2", "dare")]),
        ("dare+dare+dare", [("dare", "dare"), ("dare_2", "dare"), ("dare_3", "dare")]),
    ],
)
def test_each_stage_has_a_label_in_the_order_asked(choice: str, expected: list[tuple[str, str]]) -> None:
    assert joined.labelled("stage", choice) == expected


def test_a_stage_named_like_another_ones_repeat_gets_a_label_of_its_own() -> None:
    assert joined.labels("stage", "dare+dare+dare_2") == ["dare", "dare_2", "dare_2_2"]
    assert joined.labels("stage", "dare_2+dare+dare") == ["dare_2", "dare", "dare_3"]


@given(NAMES)
def test_labels_are_unique_and_keep_order_and_names(names: list[str]) -> None:
    pairs = joined.labelled("stage", "+".join(names))
    assert [name for _, name in pairs] == names
    assert len({label for label, _ in pairs}) == len(names)
    assert all(label.startswith(name) for label, name in pairs)


@pytest.mark.parametrize("choice", ["", "+", "dare+", "+dare", "dare++nullu"])
def test_an_empty_name_is_refused(choice: str) -> None:
    with pytest.raises(UserError, match=r"Join one or more names with '\+'"):
        joined.labelled("stage", choice)
    assert len(joined.problems("stage", choice, ["dare", "nullu"])) == 1


def test_every_unknown_name_is_told_once_with_what_exists_and_the_nearest() -> None:
    found = joined.problems("stage", "dar+nullu+zzz+dar", ["dare", "nullu"])
    assert found == [
        "unknown stage 'dar'. Did you mean 'dare'? Available: dare, nullu. (in stage=dar+nullu+zzz+dar)",
        "unknown stage 'zzz'. Available: dare, nullu. (in stage=dar+nullu+zzz+dar)",
    ]
    assert joined.problems("stage", "nullu+dare+nullu", ["dare", "nullu"]) == []


def test_an_evaluator_is_named_once() -> None:
    assert joined.labels("eval", "retrieval+zero_shot") == ["retrieval", "zero_shot"]
    assert joined.problems("eval", "retrieval+zero_shot", ["retrieval", "zero_shot"]) == []
    with pytest.raises(UserError, match=r"eval=a\+b\+a\+b names 'a' and 'b' more than once; name each evaluator once"):
        joined.labelled("eval", "a+b+a+b")
    found = joined.problems("eval", "zero_shot+zero+zero_shot+", ["zero_shot"])
    assert [line.split(".")[0] for line in found] == [
        "eval=zero_shot+zero+zero_shot+ has an empty name",
        "eval=zero_shot+zero+zero_shot+ names 'zero_shot' more than once; name each evaluator once",
        "unknown evaluator 'zero'",
    ]


@pytest.mark.parametrize(
    ("group", "choice", "left"),
    [
        ("stage", "dare+foo++dare", "dare+dare"),
        ("eval", "b+a+b+c", "b+a"),
        ("eval", "+c", ""),
    ],
)
def test_what_is_sound_in_a_choice_can_still_be_checked(group: str, choice: str, left: str) -> None:
    assert joined.sound(group, choice, ["a", "b", "dare"]) == left
