"""sweep.json: written whole, read with care, compared with every difference."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rcc.errors import UserError
from rcc.sweeps.record import LIST, SEARCH, SweepRecord, is_sweep, read_record, refuse_differences

RECORD = SweepRecord(SEARCH, ("debug=quick",), ("seed=interval(0,9)",), ("bytes:min",), (), "tpe", n_trials=3)


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert not is_sweep(tmp_path)
    listed = SweepRecord(LIST, ("a=1",), ("b=1,2",)).with_failure(1, "no disk", 1)
    for record in (RECORD, listed):
        record.write(tmp_path)
        assert (is_sweep(tmp_path), read_record(tmp_path)) == (True, record)
    assert listed.without_failure(1).failed == {}


def test_a_record_from_before_studies_had_names_of_their_own_is_read(tmp_path):
    RECORD.write(tmp_path)
    content = json.loads((tmp_path / "sweep.json").read_text())
    del content["study"]
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    assert read_record(tmp_path) == RECORD


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"kind": "dance"}, {"fixed": "a=1"}, {"n_trials": "many"}, {"failed": {"1": "x"}}, {"more": 1}],
)
def test_a_damaged_record_is_refused(tmp_path, change):
    RECORD.write(tmp_path)
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="is damaged or of another version"):
        read_record(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path)


def test_every_difference_is_told_and_the_count_is_none(tmp_path):
    refuse_differences(tmp_path, RECORD, replace(RECORD, n_trials=40))
    refuse_differences(tmp_path, RECORD, replace(RECORD, fixed=("debug=quick", "logger=wandb", "limits.layers=4")))
    other = replace(RECORD, fixed=("debug=quick", "seed=1"), space=("seed=interval(0,5)",), sampler="random", seed=3)
    with pytest.raises(UserError) as told:
        refuse_differences(tmp_path, RECORD, other)
    for line in (
        "seed=1: not recorded, asked now",
        "seed=interval(0,9): recorded, now absent",
        'sampler: recorded "tpe", asked "random"',
        "seed: recorded 0, asked 3",
        "start another in a folder of its own",
    ):
        assert line in str(told.value)


def test_the_command_that_goes_on_says_again_what_no_folder_decides(tmp_path):
    record = replace(RECORD, fixed=("model.target=mine:Net", "debug=quick"), storage="postgresql://me@host/studies")
    assert record.resume_line(tmp_path) == (
        f"rcc-run resume={tmp_path} model.target=mine:Net storage=postgresql://me@host/studies"
    )
