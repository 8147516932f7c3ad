"""What a search is for: objectives by name and direction, constraints by how much they are violated."""

from __future__ import annotations

import pytest

from rcc.errors import UserError
from rcc.sweeps.objectives import read_constraints, read_objectives, values_of, violations

NUMBERS = {"retention": 0.9, "bytes": 300.0}


def test_objectives_are_taken_from_a_trials_numbers_in_their_order():
    asked = read_objectives(["bytes:min", "retention:max"])
    assert [objective.direction for objective in asked] == ["minimize", "maximize"]
    assert values_of(NUMBERS, asked, []) == [300.0, 0.9]


def test_a_constraint_is_violated_by_a_share_of_its_bound():
    asked = read_constraints(["bytes<=200", "retention >= 0.95", "bytes>=150"])
    assert violations(NUMBERS, asked) == {
        "bytes<=200": pytest.approx(0.5),
        "retention>=0.95": pytest.approx(0.05 / 0.95),
        "bytes>=150": pytest.approx(-1.0),
    }


def test_a_target_in_bytes_is_a_constraint_of_its_own():
    assert violations(NUMBERS, [], True, 240.0) == {"target": pytest.approx(0.25)}
    assert violations(NUMBERS, [], False, 290.0) == {"target": 0.0}, "within what the run calls met"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "objectives is empty"),
        (["bytes"], "'bytes' is no objective; write <name>:max or <name>:min"),
        (["bytes:min", "bytes:max"], "names one twice"),
    ],
)
def test_strange_objectives_are_refused(texts, said):
    with pytest.raises(UserError, match=said):
        read_objectives(texts)


@pytest.mark.parametrize("text", ["bytes", "bytes=3", "bytes<=many", "bytes<=1e999"])
def test_strange_constraints_are_refused(text):
    with pytest.raises(UserError, match="is no constraint"):
        read_constraints([text])


def test_a_number_that_nothing_measures_is_named():
    with pytest.raises(UserError, match="no trial measures latency: there are retention, bytes"):
        values_of(NUMBERS, read_objectives(["latency:min"]), [])
