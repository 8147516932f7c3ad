"""The point of a trial is a function of the seed, its number and earlier results."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from rcc.errors import UserError
from rcc.sweeps.proposal import check_sampler, propose
from rcc.sweeps.space import Dimension

STAGE = Dimension("stage", "stage", ("a", "a+b"))
SHARE = Dimension("stage.a.share", "stage.a.share", low=0.2, high=0.9)
BITS = Dimension("stage.b.bits", "stage.b.bits", low=2, high=8)
SPACE = [BITS, SHARE, STAGE]
BOTH = ["maximize", "minimize"]


def asks(dimension, point):
    return not dimension.option.startswith("stage.b.") or "b" in str(point.get("stage"))


def searched(count, sampler="tpe", seed=0, options=None):
    """The points of a search of `count` trials, with each sampler made anew."""
    history = []
    for number in range(count):
        trial = propose(SPACE, sampler, options or {}, seed, number, BOTH, history, asks)
        share = trial.params["stage.a.share"]
        trial.state, trial.values = TrialState.COMPLETE, [1 - share**2, 1000 * share]
        trial.number = trial._trial_id = number
        trial.datetime_complete = trial.datetime_start
        history.append(trial)
    return history


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "random"])
def test_a_search_is_repeated_and_what_a_trial_lacks_is_not_asked(sampler):
    options = {"population_size": 4} if sampler == "nsgaii" else {}
    first, again = (searched(14, sampler, options=options) for _ in range(2))
    assert [trial.params for trial in first] == [trial.params for trial in again]
    for trial in first:
        assert ("stage.b.bits" in trial.params) == (trial.params["stage"] == "a+b")
    assert len({trial.params["stage.a.share"] for trial in first}) > 7
    assert searched(1, sampler, 1, options)[0].params != first[0].params


def test_the_generations_of_a_genetic_search_are_carried_from_trial_to_trial():
    noted = [trial.system_attrs for trial in searched(9, "nsgaii", options={"population_size": 3})]
    assert [note["NSGAIISampler:generation"] for note in noted] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 50))
def test_a_proposal_lies_in_the_space(seed, number):
    trial = propose(SPACE, "random", {}, seed, number, BOTH, [], asks)
    assert all(
        dimension.holds(trial.params[dimension.option]) for dimension in SPACE if dimension.option in trial.params
    )
    assert trial.state is TrialState.RUNNING


def test_a_grid_names_each_point_once_and_ends():
    space = [STAGE, Dimension("stage.b.bits", "stage.b.bits", (4, 8))]
    found = [propose(space, "grid", {}, 0, number, BOTH, [], asks) for number in range(4)]
    assert [trial.params for trial in found[:3]] == [
        {"stage": "a"},
        {"stage": "a+b", "stage.b.bits": 4},
        {"stage": "a+b", "stage.b.bits": 8},
    ]
    assert found[3] is None
    with pytest.raises(UserError, match=r"stage\.a\.share is an interval: a grid takes values one by one"):
        propose(SPACE, "grid", {}, 0, 0, BOTH, [], asks)


def test_trials_that_run_side_by_side_are_told_apart():
    running = create_trial(
        state=TrialState.RUNNING, params={"stage.a.share": 0.5}, distributions={"stage.a.share": SHARE.distribution}
    )
    assert propose([SHARE], "tpe", {}, 0, 1, BOTH, [running], asks).params["stage.a.share"] != 0.5


def test_samplers_and_their_options_are_checked():
    check_sampler("tpe", {"n_startup_trials": 3})
    for name, options, said in (
        ("tpe", {"startup": 3}, "options of sampler=tpe: .*startup"),
        ("grid", {"seed": 1}, "options of sampler=grid: it takes none, and seed is given"),
        ("cmaes", {}, "nothing is ever unpickled here. Take one of tpe"),
        ("nsga", {}, "Did you mean 'nsgaii'"),
    ):
        with pytest.raises(UserError, match=said):
            check_sampler(name, options)
