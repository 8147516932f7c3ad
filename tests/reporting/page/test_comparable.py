"""Runs of one model and data share an axis; others do not."""

from __future__ import annotations

from toys.recorded import write_run

from rcc.reporting.page.comparable import differing, entry_of, grouped, kept_of
from rcc.reporting.recorded.run import read_run


def entry(key, directory, violated=(), typed=(), **changed):
    return entry_of(key, read_run(write_run(directory / key, *typed, **changed)), violated)


def test_runs_of_other_data_or_another_model_are_groups_of_their_own(tmp_path):
    entries = [
        entry("a", tmp_path),
        entry("b", tmp_path, kept=0.9),
        entry("c", tmp_path, fingerprint="other"),
        entry("d", tmp_path, typed=["model=clip", "model.path=x"]),
        entry("e", tmp_path, typed=["model=clip", "model.path=y"]),
    ]
    assert [[each.key for each in group.entries] for group in grouped(entries)] == [["a", "b"], ["c"], ["d"], ["e"]]


def test_the_front_and_hypervolume_leave_out_what_was_not_asked_for(tmp_path):
    entries = [
        entry("small", tmp_path, kept=0.5, nbytes=1_000_000),
        entry("best", tmp_path, kept=0.8, nbytes=2_500_000),
        entry("missed", tmp_path, kept=1.0, nbytes=500_000, violated=["its target"]),
    ]
    (group,) = grouped(entries)
    assert group.front == ("small", "best")
    assert group.hypervolume == (0.5 * 4_000_000 + 0.3 * 2_500_000) / 5_000_000
    assert [dot.point.series for dot in group.plot.dots] == ["front", "front", "infeasible"]


def test_what_it_keeps_has_the_interval_of_the_last_step(tmp_path):
    assert kept_of(entry("a", tmp_path)) == "99.00% (98.0 … 100.0)"


def test_a_run_without_a_result_has_no_entry(tmp_path):
    assert entry("a", tmp_path, status="failed") is None
    assert entry("b", tmp_path, nbytes=0) is None


def test_options_that_differ_are_told_and_no_others(tmp_path):
    runs = {
        "a": read_run(write_run(tmp_path / "a", "seed=1", "data=cifar10")),
        "b": read_run(write_run(tmp_path / "b", "seed=2", "data=cifar10", "stage=dare")),
    }
    table = differing(runs)
    assert table.head == ("option", "a", "b")
    assert [[cell.text for cell in row] for row in table.rows] == [["seed", "1", "2"], ["stage", "-", "dare"]]
    assert differing({"a": runs["a"], "same": runs["a"]}) is None
