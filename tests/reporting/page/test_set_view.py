"""A page of several runs holds those of one model on one axis, and others side by side."""

from __future__ import annotations

import pytest
from toys.recorded import write_run, write_sweep

from rcc.errors import UserError
from rcc.reporting.page.set_view import set_view
from rcc.reporting.page.write import read_place


def view_of(*places):
    return set_view([str(place) for place in places], [read_place(place) for place in places])


def test_runs_of_one_model_share_an_axis(tmp_path):
    view = view_of(write_run(tmp_path / "a", kept=0.9), write_run(tmp_path / "b", kept=0.95, nbytes=300_000))
    assert view.answer == (
        "2 runs of one model and data. On clip_tiny, digits, a with 200 kB and 90.00% kept is the smallest that nothing"
        " beats, b with 300 kB and 95.00% kept keeps the most."
    )
    ((group, table),) = view.groups
    assert group.front == ("a", "b")
    assert [row[0].text for row in table.rows] == ["a", "b"]


def test_runs_of_other_data_stand_side_by_side(tmp_path):
    view = view_of(write_run(tmp_path / "a"), write_run(tmp_path / "b", "data=cifar10", fingerprint="other"))
    assert view.answer.startswith("2 runs of 2 models or data sets, which no axis can hold together.")
    assert [group.title for group, _ in view.groups] == ["clip_tiny, digits", "clip_tiny, cifar10"]
    assert [row[0].text for row in view.differences.rows] == ["data"]


def test_a_sweep_stands_for_its_trials_and_names_tell_runs_apart(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [(0.9, 100_000), (0.95, 200_000)])
    run = write_run(tmp_path / "other" / "0")
    view = view_of(sweep, run)
    assert [name for name, _ in view.runs] == ["sweep/0", "sweep/1", "other/0"]


def test_runs_without_an_artifact_are_named(tmp_path):
    view = view_of(write_run(tmp_path / "a"), write_run(tmp_path / "b", status="failed"))
    assert [[cell.text for cell in row] for row in view.unplaced.rows] == [
        ["b", "dare → quant on clip_tiny, digits", "failed"]
    ]


def test_many_runs_have_a_table_and_no_parts_of_their_own(tmp_path):
    view = view_of(*(write_run(tmp_path / f"run{number}", nbytes=1000 + number) for number in range(30)))
    assert (view.runs, view.differences) == ([], None)
    assert len(view.groups[0][1].rows) == 30


def test_a_set_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither a run nor a sweep"):
        view_of(write_sweep(tmp_path / "sweep", []))
