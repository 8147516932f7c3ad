"""A study in a file: one operation a trial, nothing lost to a torn line, nothing taken from a stranger."""

from __future__ import annotations

import pytest
from toys.studies import study_in

from rcc.errors import UserError
from rcc.sweeps.proposal import propose
from rcc.sweeps.space import Dimension
from rcc.sweeps.study import SweepStudy

SPACE = [Dimension("seed", "seed", low=0, high=9)]


def begun(folder):
    study = SweepStudy(folder, "", ["minimize"], SPACE)
    number = study.add(propose(SPACE, "random", {}, 0, len(study.trials()), ["minimize"], [], lambda *_: True))
    return study, number


def test_numbers_and_results_survive_their_process(tmp_path):
    study, number = begun(tmp_path)
    study.tell(number, [3.0], {"target": 0.5}, {"missed": "too large"})
    study, number = begun(tmp_path)
    study.fail(number, "no disk", 1)
    first, second = study_in(tmp_path).trials
    assert (first.number, first.state.name, first.values, first.constraints) == (0, "COMPLETE", [3.0], {"target": 0.5})
    assert (second.number, second.state.name, second.user_attrs["message"]) == (1, "FAIL", "no disk")


def test_a_trial_is_one_line_and_a_torn_one_is_dropped(tmp_path):
    study, _ = begun(tmp_path)
    whole = (tmp_path / "study.journal").read_bytes()
    assert whole.count(b"\n") == 2
    (tmp_path / "study.journal").write_bytes(whole + whole[:30])
    again, number = begun(tmp_path)
    assert (number, len(again.trials()), len(study.trials())) == (1, 2, 2)


def test_parameters_that_nobody_searches_are_refused(tmp_path):
    begun(tmp_path)
    other = [Dimension("seed", "seed", low=20, high=29)]
    with pytest.raises(UserError, match=r"trial 0 in .*study\.journal has seed=\d, which this sweep does not search"):
        SweepStudy(tmp_path, "", ["minimize"], other).trials()


def test_a_study_of_other_objectives_is_refused(tmp_path):
    begun(tmp_path)
    with pytest.raises(UserError, match="is to minimize, the sweep maximize, minimize"):
        SweepStudy(tmp_path, "", ["maximize", "minimize"], SPACE)


def test_a_file_that_is_no_journal_is_told(tmp_path):
    (tmp_path / "study.journal").write_text("no journal\nat all\n")
    with pytest.raises(UserError, match="cannot be used"):
        begun(tmp_path)


def test_a_database_holds_the_study_of_each_sweep_under_a_name_of_its_own(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    for name in ("a", "b"):
        study = SweepStudy(tmp_path, url, ["minimize"], SPACE, name)
        study.add(propose(SPACE, "random", {}, 0, 0, ["minimize"], [], lambda *_: True))
    assert [len(SweepStudy(tmp_path, url, ["minimize"], SPACE, name).trials()) for name in ("a", "b")] == [1, 1]
    with pytest.raises(UserError, match="cannot be used"):
        SweepStudy(tmp_path, "sqlite:////nowhere/at/all.db", ["minimize"], SPACE)


def test_a_study_that_is_gone_is_not_begun_anew_beside_its_trials(tmp_path):
    with pytest.raises(UserError, match=r"holds trials of the study rcc, and .*study\.journal holds no such study"):
        SweepStudy(tmp_path, "", ["minimize"], SPACE, begun=True)
