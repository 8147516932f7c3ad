"""The grammar of `stage=`, apart from Hydra."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.composing import cascades
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
    assert cascades.labelled(choice) == expected


def test_a_stage_named_like_another_ones_repeat_gets_a_label_of_its_own() -> None:
    assert cascades.labels("dare+dare+dare_2") == ["dare", "dare_2", "dare_2_2"]
    assert cascades.labels("dare_2+dare+dare") == ["dare_2", "dare", "dare_3"]


@given(NAMES)
def test_labels_are_unique_and_keep_order_and_names(names: list[str]) -> None:
    pairs = cascades.labelled("+".join(names))
    assert [name for _, name in pairs] == names
    assert len({label for label, _ in pairs}) == len(names)
    assert all(label.startswith(name) for label, name in pairs)


@pytest.mark.parametrize("choice", ["", "+", "dare+", "+dare", "dare++nullu"])
def test_an_empty_name_is_refused(choice: str) -> None:
    with pytest.raises(UserError, match=r"Join one or more names with '\+'"):
        cascades.labelled(choice)
    assert len(cascades.problems(choice, ["dare", "nullu"])) == 1


def test_every_unknown_name_is_told_once_with_what_exists_and_the_nearest() -> None:
    found = cascades.problems("dar+nullu+zzz+dar", ["dare", "nullu"])
    assert found == [
        "unknown stage 'dar'. Did you mean 'dare'? Available: dare, nullu. (in stage=dar+nullu+zzz+dar)",
        "unknown stage 'zzz'. Available: dare, nullu. (in stage=dar+nullu+zzz+dar)",
    ]
    assert cascades.problems("nullu+dare+nullu", ["dare", "nullu"]) == []
