"""The parts of a run's page hold the numbers of its files."""

from __future__ import annotations

from toys.adapters import compress, dense_toy
from toys.recorded import write_items, write_run

from rcc.artifact.size import directory_bytes
from rcc.artifact.write import write_artifact
from rcc.reporting.page.run_view import run_view
from rcc.reporting.recorded.run import read_run


def texts(grid):
    return [[cell.text for cell in row] for row in grid.rows]


def test_steps_attempts_and_the_dense_model_are_points_and_rows(tmp_path):
    view = run_view(read_run(write_run(tmp_path / "run")))
    assert {dot.point.key: dot.point.series for dot in view.quality.dots} == {
        "dense": "dense", "step 1": "step", "step 2.1": "attempt", "step 2": "step",
    }  # fmt: skip
    assert [row[0] for row in texts(view.steps)] == ["dense", "1. dare (round 1)", "2. quant (round 1)"]
    assert texts(view.steps)[2][1:6] == ["kept", "0.9", "99.00% (98.0 … 100.0)", "200 kB", "12.50×"]
    assert view.steps.keys == ("dense", "step 1", "step 2")


def test_the_test_split_is_told_with_the_interval_of_the_change(tmp_path):
    view = run_view(read_run(write_run(tmp_path / "run")))
    assert texts(view.test) == [["accuracy (primary)", "99.00%", "98.00%", "-1.00 points (-2.0 … +0.5)"]]


def test_parts_of_the_artifact_add_up_to_its_bytes(tmp_path):
    directory = write_run(tmp_path / "run")
    write_artifact(compress(dense_toy()), directory / "artifact", "float16", {"model": {"name": "toy"}})
    view = run_view(read_run(directory))
    assert sum(bar.nbytes for bar in view.parts[1]) == directory_bytes(directory / "artifact")
    assert view.run.choice("model", "") == "toy"
    assert view.kinds.rows
    assert ("model.name", "toy") in view.settings


def test_layers_items_and_times_are_there(tmp_path):
    directory = write_run(tmp_path / "run", layers={"m.0.q": {"sparsity": 0.5}})
    write_items(directory, [1, 0], [0, 0])
    view = run_view(read_run(directory))
    assert [heat.measure for heat in view.heats] == ["sparsity"]
    assert [each.index for each in view.changes.lost] == [0]
    assert len(view.times.bars) == 1
    assert texts(view.attempts) == [["1", "2026-11-20 10:00:00", "30.0 s", "finished"]]


def test_a_damaged_file_of_items_is_told_and_the_rest_is_drawn(tmp_path):
    directory = write_run(tmp_path / "run")
    (directory / "items.json").write_text("[")
    view = run_view(read_run(directory))
    assert view.changes is None
    assert "items.json is damaged" in view.problems[0]


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    directory = write_run(tmp_path / "run", status="running")
    (directory / "metrics.jsonl").unlink()
    view = run_view(read_run(directory))
    assert (view.quality, view.test, view.parts, view.heats) == (None, None, None, [])
    assert view.steps.rows == ()
